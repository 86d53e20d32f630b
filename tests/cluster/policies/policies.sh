#!/bin/bash
# Something that enforces NetworkPolicies on the cluster of ../cluster.sh, whose network does not: the firewall of kube-router.
#
#   policies.sh build    builds it if it is missing (once, about 3 minutes on two cores)
#   policies.sh start    starts it in the cluster's namespaces; it ends with the cluster
#
# The kernel must have ipset, iptables' match for sets, and NFLOG (CONFIG_IP_SET_HASH_IP, CONFIG_NETFILTER_XT_SET, CONFIG_NETFILTER_XT_TARGET_NFLOG).
# kube-network-policies, the other one that is a Go module, wants nftables' queue (CONFIG_NFT_QUEUE), which fewer kernels have.
set -euo pipefail

VERSION=2.1.0
BIN=${XDG_CACHE_HOME:-$HOME/.cache}/nesycd/bin/kube-router-$VERSION
DIR=${CLUSTER_DIR:-/var/lib/nesycd-cluster}
SERVICES=10.96.0.0/16   # as in cluster.sh

fail() { echo "$*" >&2; exit 1; }

build() {
  [ -x "$BIN/kube-router" ] && return
  command -v go >/dev/null || fail "kube-router is built with Go, and there is none: install Go 1.26 or newer (https://go.dev/dl)"
  echo "Building kube-router $VERSION into $BIN: once, about 3 minutes on two cores"
  local aside; aside=$(mktemp -d)
  trap "rm -rf '$aside'" EXIT
  CGO_ENABLED=0 GOBIN=$aside nice go install -ldflags "-s -w" "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v$VERSION"
  mkdir -p "$BIN"
  mv "$aside/kube-router" "$BIN/"
}

start() {
  [ "$(id -u)" = 0 ] || fail "This needs root"
  local outer inner
  outer=$(cat "$DIR/init.pid" 2>/dev/null) || fail "There is no cluster: ../cluster.sh up"
  inner=$(cat "/proc/$outer/task/$outer/children")   # PID 1 of the cluster: whatever runs in its namespace ends with it
  [ -e "$DIR/policies.pid" ] && kill -0 "$(cat "$DIR/policies.pid")" 2>/dev/null && return
  setsid nohup nsenter --target ${inner%% *} --mount --net --pid "$BIN/kube-router" --kubeconfig="$DIR/admin.kubeconfig" --hostname-override=node \
    --run-firewall --run-router=false --run-service-proxy=false --enable-cni=false --service-cluster-ip-range=$SERVICES \
    --health-port=0 >"$DIR/log/policies.log" 2>&1 </dev/null &
  echo $! >"$DIR/policies.pid"
}

case ${1:-} in build|start) "$1";; *) sed -n 2,5p "$(readlink -f "$0")"; exit 2;; esac
