#!/bin/bash
# Makes a base image of Debian's packages, for machines that reach a Debian mirror but no registry of images:
#
#   make_base.sh NAME [buildah|podman|docker]
#
# It is what debian:bookworm-slim is, a minimal Debian without documentation and translations, and authorities for TLS. Needs root and debootstrap.
# The mirror is the one that apt on this machine uses.
set -euo pipefail
name=${1:?usage: make_base.sh NAME [buildah|podman|docker]} builder=${2:-buildah}
suite=bookworm

[ "$(id -u)" = 0 ] || { echo "debootstrap needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)' | awk -v suite=$suite '$2 == suite && $3 == "main" && $4 == "Packages" {print $1; exit}')
[ -n "$mirror" ] || { echo "apt knows no mirror of Debian $suite: apt-get indextargets" >&2; exit 1; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/etc/dpkg/dpkg.cfg.d" "$root/etc/apt/apt.conf.d"
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'SLIM'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
SLIM
# What apt is told about the mirror on this machine (an old date of a frozen mirror, a proxy) holds in the base too.
apt-config dump | grep -E '^Acquire::(Check-|http::Proxy)' >"$root/etc/apt/apt.conf.d/machine" || true
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" >"$root.log" 2>&1 || { tail -20 "$root.log" >&2; exit 1; }
rm -f "$root.log"
# debootstrap unpacks the first packages itself, so dpkg's rules did not hold for them.
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/{info,locale,man}/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*

if [ "$builder" = buildah ]; then
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$root" / >/dev/null
  buildah commit --quiet --rm "$container" "$name" >/dev/null
else
  tar --create --numeric-owner --directory "$root" . | "$builder" import - "$name" >/dev/null
fi
