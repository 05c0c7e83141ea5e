#!/usr/bin/env bash
# A step of cloudbuild.yaml, from the root of the checkout; nothing where no IMAGE is named.
#   image      build it, on the layers of the one before
#   test       the locked packages fit, and the transforms do in the image what they do outside
#   push       push it, by the tag of the commit and as the cache of the next build
#   template   write the template's file to TEMPLATES/TAG.json
set -euo pipefail

if [[ -z "${IMAGE:-}" ]]; then
  echo "no _IMAGE is given: lint and test only"
  exit 0
fi
: "${TAG:?give _TAG}"

case "${1:?say which step}" in
  image)
    docker pull --quiet "$IMAGE:cache" || true
    docker build --file templates/flex/Dockerfile --cache-from "$IMAGE:cache" \
      --build-arg BUILDKIT_INLINE_CACHE=1 --tag "$IMAGE:$TAG" --tag "$IMAGE:cache" .
    ;;
  test)
    docker run --rm --volume "$PWD/tests:/template/tests:ro" --workdir /template --entrypoint bash "$IMAGE:$TAG" \
      -c "pip check && python -m pytest -q -p no:cacheprovider tests/transforms"
    ;;
  push)
    docker push "$IMAGE:$TAG"
    docker push "$IMAGE:cache"
    ;;
  template)
    python3 -m pipelines.template "$IMAGE:$TAG" > template.json
    gcloud storage cp template.json "${TEMPLATES:?give _TEMPLATES}/$TAG.json"
    ;;
  *)
    echo "got step '$1'; allowed: image, test, push, template" >&2
    exit 2
    ;;
esac
