#!/usr/bin/env bash
# A step of cloudbuild.yaml, run from the root of the checkout; it does nothing without IMAGE.
#   image      build it, with the previous image as cache, from bases by digest: LAUNCHER and SDK if set, else the
#              current digests of the tags below; the log and the image's labels record them
#   test       check that the locked packages fit, and that the transforms behave in the image as outside
#   push       push it, with the tag of the commit and as the cache of the next build, and write its digest to image.digest
#   template   write the template's file, which pins the image by that digest, to TEMPLATES/TAG.json
set -euo pipefail

if [[ -z "${IMAGE:-}" ]]; then
  echo "no _IMAGE is given: lint and test only"
  exit 0
fi
: "${TAG:?give _TAG}"

# The tags of the bases; each build resolves them once.
LAUNCHER_TAG=gcr.io/dataflow-templates-base/python311-template-launcher-base:20260122_RC00
SDK_TAG=apache/beam_python3.11_sdk:2.77.0
DIGEST='^[^@[:space:]]+@sha256:[0-9a-f]{64}$'

digest_of() { # IMAGE REPOSITORY: the registry's digest of a local image
  docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | grep -m 1 -F "$2@sha256:" || true
}

base() { # NAME GIVEN TAG: the base by digest
  local found="$2"
  if [[ -z "$found" ]]; then
    docker pull --quiet "$3" >&2
    found=$(digest_of "$3" "${3%:*}")
    found="${found#docker.io/}"
  fi
  if ! [[ "$found" =~ $DIGEST ]]; then
    echo "_$1: got '${found:-nothing for $3}'; allowed: an image by digest, NAME@sha256:... ; a tag may point to another image tomorrow" >&2
    exit 2
  fi
  echo "base $1: $found; the next build uses the same with --substitutions=_$1=$found" >&2
  echo "$found"
}

case "${1:?say which step}" in
  image)
    launcher=$(base LAUNCHER "${LAUNCHER:-}" "$LAUNCHER_TAG")
    sdk=$(base SDK "${SDK:-}" "$SDK_TAG")
    docker pull --quiet "$IMAGE:cache" || true
    docker build --file templates/flex/Dockerfile --cache-from "$IMAGE:cache" \
      --build-arg "LAUNCHER=$launcher" --build-arg "SDK=$sdk" --label "base.launcher=$launcher" --label "base.sdk=$sdk" \
      --build-arg BUILDKIT_INLINE_CACHE=1 --tag "$IMAGE:$TAG" --tag "$IMAGE:cache" .
    ;;
  test)
    docker run --rm --volume "$PWD/tests:/template/tests:ro" --workdir /template --entrypoint bash "$IMAGE:$TAG" \
      -c "pip check && python -m pytest -q -p no:cacheprovider tests/transforms"
    ;;
  push)
    docker push "$IMAGE:$TAG"
    docker push "$IMAGE:cache"
    digest_of "$IMAGE:$TAG" "$IMAGE" > image.digest
    [[ -s image.digest ]] || { echo "the registry returned no digest of $IMAGE:$TAG; push it again" >&2; exit 1; }
    echo "pushed; deploy it as --image $IMAGE:$TAG@$(cut -d@ -f2 image.digest)"
    ;;
  template)
    python3 -m pipelines.dataflow.template "$(cat image.digest)" > template.json
    gcloud storage cp template.json "${TEMPLATES:?give _TEMPLATES}/$TAG.json"
    ;;
  *)
    echo "got step '$1'; allowed: image, test, push, template" >&2
    exit 2
    ;;
esac
