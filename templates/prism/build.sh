#!/usr/bin/env bash
# build.sh VERSION BINARY: Beam's runner Prism of that version, from its Go module and the patches beside this file.
#
#   unix-socket.patch   it listens on a Unix socket or the loopback interface alone
#   bundle-wait.patch   it sleeps while it waits for the response of a bundle whose data it has, in place of a busy loop
# The patched source is that of the module, whose checksum Go verifies, in a folder that is removed at the end.
set -euo pipefail
version=$1 binary=$(cd "$(dirname "$2")" && pwd)/$(basename "$2") here=$(cd "$(dirname "$0")" && pwd)

for program in go git; do
  command -v $program > /dev/null || { echo "no $program, with which Prism is built: install it" >&2; exit 1; }
done
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
cd "$source"
go mod download -json "github.com/apache/beam/sdks/v2@v$version" > module.json
module=$(sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p' module.json)
mkdir beam
cp -R "$module/go" "$module/go.mod" "$module/go.sum" beam
chmod -R u+w beam
cd beam
# Without its variables set so, git would leave the files alone, and say nothing, where the folder lies inside a repository.
for patch in "$here"/*.patch; do
  env -u GIT_DIR GIT_CEILING_DIRECTORIES="$source" git apply --whitespace=nowarn "$patch" || {
    echo "$patch does not apply to Prism $version: bring it up to date with that version, and run this again" >&2
    exit 1
  }
done
go build -trimpath -buildvcs=false -o "$source/prism" ./go/cmd/prism
help=$("$source/prism" -h 2>&1 || true)
[[ $help == *-job_socket* ]] || { echo "the Prism that was built has no --job_socket" >&2; exit 1; }
mv "$source/prism" "$binary.new"  # from another file system it may take a while
mv "$binary.new" "$binary"
