#!/bin/bash
# A one-node Kubernetes for the tests, from upstream's Go modules and Debian's packages.
#
#   cluster.sh packages     installs the Debian packages of packages.txt that are missing
#   cluster.sh build        builds the binaries that are missing (once, about 9 minutes on two cores)
#   cluster.sh up           starts it, about 15 seconds
#   cluster.sh load TAR...  gives it images (oci-archive)
#   cluster.sh down         ends it, and leaves nothing of it behind
#   cluster.sh status       what runs on it
#
# It lives in a network, mount and PID namespace of its own, with all its state in CLUSTER_DIR. API, pods and Services can be reached from the
# machine; pods have no way out. KUBECONFIG is $CLUSTER_DIR/admin.kubeconfig.
set -euo pipefail

SELF=$(readlink -f "$0")
VERSION=1.36.3       # newer ones need cgroup v2, which not every machine has
COREDNS=1.12.4       # a newer one in the same go.mod would raise Kubernetes' own dependencies
export CLUSTER_BIN=${CLUSTER_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/nesycd/bin/kubernetes-$VERSION}
export CLUSTER_DIR=${CLUSTER_DIR:-/var/lib/nesycd-cluster}
BIN=$CLUSTER_BIN DIR=$CLUSTER_DIR NODE=node SOCKET=$CLUSTER_DIR/containerd.sock
KUBECTL="$BIN/kubectl --kubeconfig=$DIR/admin.kubeconfig"

# Its network: one pair of interfaces, one end on the machine.
NETWORK=nesycd-cluster OUTSIDE=nesycd0 INSIDE=nesycd1
NODE_IP=10.99.0.1 MACHINE_IP=10.99.0.2 PODS=10.244.0.0/16 NODE_PODS=10.244.0.0/24 SERVICES=10.96.0.0/16 API_SERVICE=10.96.0.1 DNS=10.96.0.10

# Folders that containerd, kubelet and CNI write to whatever they are told: in there they are file systems in memory.
STRAY="/run/netns /run/containerd /var/lib/cni /var/lib/kubelet /usr/libexec/kubernetes /var/log/containers /opt/containerd"

fail() { echo "$*" >&2; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || fail "A cluster of its own needs root. Run it as root, or give a cluster: make test-cluster KUBECONFIG=FILE (docs/development.md)"; }

packages() {
  local missing=() name
  command -v dpkg-query >/dev/null || fail "The cluster is made of Debian's packages, and this is no Debian. Give a cluster: make test-cluster KUBECONFIG=FILE (docs/development.md)"
  while read -r name; do
    dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done <"$(dirname "$SELF")/packages.txt"
  [ ${#missing[@]} = 0 ] && return
  need_root
  echo "Installing with apt: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# --- binaries -------------------------------------------------------------------------------------------------------------------------------

# Kubernetes' go.mod points to folders of its own repository: these are modules too, each of the same version.
STAGING="api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap code-generator component-base
 component-helpers controller-manager cri-api cri-client cri-streaming csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms
 kube-aggregator kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver
 sample-cli-plugin sample-controller streaming"
COMMANDS="kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl"

build() {
  local name missing=()
  for name in $COMMANDS coredns pause; do [ -x "$BIN/$name" ] || missing+=("$name"); done
  [ ${#missing[@]} = 0 ] && return
  command -v go >/dev/null || fail "Kubernetes is built with Go, and there is none: install Go 1.26 or newer (https://go.dev/dl), or give a cluster: make test-cluster KUBECONFIG=FILE"
  echo "Building ${missing[*]} into $BIN: once, about 9 minutes on two cores"
  local source; source=$(mktemp -d)
  trap "rm -rf '$source'" EXIT
  mkdir -p "$BIN" "$source"/{coredns,pause,out}
  cd "$source"
  cat >pause/main.go <<'E'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}
E
  local plugins="errors health ready cache kubernetes"
  {
    echo 'package main'
    echo 'import ('
    echo '"github.com/coredns/coredns/core/dnsserver"'
    echo '"github.com/coredns/coredns/coremain"'
    for name in $plugins; do echo "_ \"github.com/coredns/coredns/plugin/$name\""; done
    echo ')'
    echo "func main() { dnsserver.Directives = []string{\"${plugins// /\", \"}\"}; coremain.Run() }"
  } >coredns/main.go
  { # one go.mod, so that all share one compilation of what they have in common
    printf 'module example/cluster\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' $VERSION
    for name in $STAGING; do echo "	k8s.io/$name => k8s.io/$name v0.${VERSION#1.}"; done
    echo ')'
  } >go.mod
  export CGO_ENABLED=0
  # One `go get` that names every version: without @version it takes the newest Kubernetes.
  nice go get -tool $(for name in $COMMANDS; do echo "k8s.io/kubernetes/cmd/$name@v$VERSION"; done)
  nice go get "github.com/coredns/coredns@v$COREDNS"
  nice go mod tidy
  local version="-X k8s.io/component-base/version"
  nice go build -ldflags "-s -w $version.gitVersion=v$VERSION $version.gitMajor=1 $version.gitMinor=36" -o out/ $(for name in $COMMANDS; do echo "k8s.io/kubernetes/cmd/$name"; done)
  nice go build -ldflags "-s -w" -o out/ ./coredns ./pause
  mv out/* "$BIN/"
}

# --- up -------------------------------------------------------------------------------------------------------------------------------------

kubeconfig() { # NAME TOKEN
  cat >"$DIR/$1.kubeconfig" <<E
apiVersion: v1
kind: Config
clusters: [{name: cluster, cluster: {server: "https://$NODE_IP:6443", certificate-authority: $DIR/pki/ca.crt}}]
users: [{name: $1, user: {token: $2}}]
contexts: [{name: cluster, context: {cluster: cluster, user: $1}}]
current-context: cluster
E
}

certificate() { # NAME SUBJECT ALTERNATIVE-NAMES
  openssl req -x509 $KEY -CA ca.crt -CAkey ca.key -subj "$2" -addext "subjectAltName=$3" -addext basicConstraints=critical,CA:FALSE \
    -keyout "$1.key" -out "$1.crt" 2>/dev/null
}

account() { # NAME USER GROUP
  local token; token=$(openssl rand -hex 16)
  echo "$token,$2,$1,\"$3\"" >>tokens.csv
  kubeconfig "$1" "$token"
}

files() { # certificates, tokens, configurations
  mkdir -p "$DIR"/{pki,log,cni,etcd,run,kubelet,plugins,podlogs,volumes}
  chmod 700 "$DIR" "$DIR/pki"
  cd "$DIR/pki"
  KEY="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
  openssl req -x509 $KEY -subj /CN=cluster-ca -keyout ca.key -out ca.crt 2>/dev/null
  certificate api /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:$API_SERVICE,IP:$NODE_IP,IP:127.0.0.1"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client DNS:x
  certificate front-proxy /CN=front-proxy DNS:x
  openssl genrsa -out service-accounts.key 2048 2>/dev/null
  : >tokens.csv
  account admin admin system:masters
  account controllers system:kube-controller-manager x
  account scheduler system:kube-scheduler x
  account proxy system:kube-proxy x
  account node system:node:$NODE system:nodes
  cat >"$DIR/containerd.toml" <<E
version = 2
root = "$DIR/containerd"
state = "$DIR/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/cluster/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$DIR/cni"
E
  # ptp, not bridge: every packet between pods is routed, so that the addresses of Services are undone without the module br_netfilter.
  cat >"$DIR/cni/10-pods.conflist" <<E
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "$DIR/run/ipam", "ranges": [[{"subnet": "$NODE_PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
E
  cat >"$DIR/kubelet.yaml" <<E
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: 20000
featureGates: {KubeletInUserNamespace: true}
podLogsDir: $DIR/podlogs
volumePluginDir: $DIR/plugins
containerRuntimeEndpoint: unix://$SOCKET
clusterDomain: cluster.local
clusterDNS: [$DNS]
resolvConf: ""
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $DIR/pki/ca.crt}}
authorization: {mode: Webhook}
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
E
}

image() { # NAME: an image of one static binary, kept beside the binary
  [ -s "$BIN/$1.tar" ] && return
  printf 'FROM scratch\nCOPY %s /%s\nUSER 65532:65532\nENTRYPOINT ["/%s"]\n' "$1" "$1" "$1" >"$DIR/$1.containerfile"
  buildah bud -q -t "localhost/cluster/$1:1" -f "$DIR/$1.containerfile" "$BIN" >/dev/null
  buildah push -q "localhost/cluster/$1:1" "oci-archive:$BIN/$1.tar.new:localhost/cluster/$1:1"
  buildah rmi "localhost/cluster/$1:1" >/dev/null
  mv "$BIN/$1.tar.new" "$BIN/$1.tar"
}

load() {
  local archive
  for archive; do ctr -a "$SOCKET" -n k8s.io images import "$archive" >/dev/null; done
}

answers() { $KUBECTL get --raw /readyz >/dev/null 2>&1; }
runs_containers() { ctr -a "$SOCKET" version >/dev/null 2>&1; }
registered() { $KUBECTL get node $NODE >/dev/null 2>&1; }
wait_for() { # SECONDS COMMAND
  local until=$((SECONDS + $1)); shift
  until "$@"; do
    [ $SECONDS -lt $until ] || fail "The cluster did not get ready ($1): its logs are in $DIR/log"
    sleep .3
  done
}

up() {
  need_root
  [ ! -e "$DIR/init.pid" ] || fail "The cluster is there already, or was not ended: $0 down"
  mkdir -p "$DIR"
  files
  ip netns add $NETWORK
  ip link add $OUTSIDE type veth peer name $INSIDE netns $NETWORK
  ip addr add $MACHINE_IP/24 dev $OUTSIDE
  ip link set $OUTSIDE up
  nsenter --net=/run/netns/$NETWORK sh -c "ip link set lo up; ip addr add $NODE_IP/24 dev $INSIDE; ip link set $INSIDE up; ip route add default via $MACHINE_IP; sysctl -qw net.ipv4.ip_forward=1"
  ip route add $PODS via $NODE_IP
  ip route add $SERVICES via $NODE_IP
  setsid nohup nsenter --net=/run/netns/$NETWORK unshare --mount --pid --fork --kill-child --mount-proc "$SELF" inside >"$DIR/log/inside.log" 2>&1 </dev/null &
  echo $! >"$DIR/init.pid"
  image pause
  image coredns
  wait_for 120 answers
  wait_for 60 runs_containers
  load "$BIN/pause.tar" "$BIN/coredns.tar"
  wait_for 120 registered
  $KUBECTL wait --for=condition=Ready node/$NODE --timeout=120s >/dev/null
  sed "s/DNS_ADDRESS/$DNS/" "$(dirname "$SELF")/addons.yaml" | $KUBECTL apply -f - >/dev/null
  $KUBECTL -n kube-system rollout status deploy/coredns --timeout=120s >/dev/null
  echo "Kubernetes $VERSION is ready after $SECONDS s: export KUBECONFIG=$DIR/admin.kubeconfig"
}

# --- inside its namespaces ------------------------------------------------------------------------------------------------------------------

run() { # NAME COMMAND...
  local name=$1; shift
  "$@" >"$DIR/log/$name.log" 2>&1 &
}

inside() { # PID 1 there: its end is the end of all
  mount --make-rshared /
  # kubelet wants some values of the whole machine: it is shown what it wants, and nothing is changed.
  local setting file
  for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
    file=$DIR/run/${setting%=*}; mkdir -p "$(dirname "$file")"
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
  for file in $STRAY; do mkdir -p "$file"; mount -t tmpfs none "$file"; done
  run etcd etcd --data-dir "$DIR/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
  run api "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --advertise-address=$NODE_IP --secure-port=6443 --service-cluster-ip-range=$SERVICES \
    --tls-cert-file="$DIR/pki/api.crt" --tls-private-key-file="$DIR/pki/api.key" --client-ca-file="$DIR/pki/ca.crt" --token-auth-file="$DIR/pki/tokens.csv" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$DIR/pki/service-accounts.key" \
    --service-account-signing-key-file="$DIR/pki/service-accounts.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-client-certificate="$DIR/pki/kubelet-client.crt" --kubelet-client-key="$DIR/pki/kubelet-client.key" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$DIR/pki/ca.crt" --requestheader-allowed-names=front-proxy --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User \
    --proxy-client-cert-file="$DIR/pki/front-proxy.crt" --proxy-client-key-file="$DIR/pki/front-proxy.key"
  run containerd containerd --config "$DIR/containerd.toml"
  until answers; do sleep .3; done
  run controllers "$BIN/kube-controller-manager" --kubeconfig="$DIR/controllers.kubeconfig" --leader-elect=false --use-service-account-credentials \
    --root-ca-file="$DIR/pki/ca.crt" --service-account-private-key-file="$DIR/pki/service-accounts.key"
  run scheduler "$BIN/kube-scheduler" --kubeconfig="$DIR/scheduler.kubeconfig" --leader-elect=false
  until runs_containers; do sleep .2; done
  run kubelet "$BIN/kubelet" --config="$DIR/kubelet.yaml" --kubeconfig="$DIR/node.kubeconfig" --hostname-override=$NODE --node-ip=$NODE_IP \
    --root-dir="$DIR/kubelet" --cert-dir="$DIR/kubelet/pki"
  run proxy "$BIN/kube-proxy" --kubeconfig="$DIR/proxy.kubeconfig" --hostname-override=$NODE --proxy-mode=iptables --cluster-cidr=$PODS \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
  run volumes volumes
  wait
}

volumes() { # the storage class "standard": local volumes, whose files belong to a pod's fsGroup (those of the controllers' hostPath do not)
  set +e
  local class namespace name uid size mode
  while sleep 1; do
    $KUBECTL get pvc -A -o jsonpath='{range .items[?(@.status.phase=="Pending")]}{.spec.storageClassName} {.metadata.namespace} {.metadata.name} {.metadata.uid} {.spec.resources.requests.storage} {.spec.accessModes[0]}{"\n"}{end}' |
    while read -r class namespace name uid size mode; do
      [ "$class" = standard ] && [ ! -d "$DIR/volumes/$uid" ] && mkdir -p "$DIR/volumes/$uid" || continue
      $KUBECTL create -f - <<E
apiVersion: v1
kind: PersistentVolume
metadata: {name: pvc-$uid, annotations: {pv.kubernetes.io/provisioned-by: nesycd/local}}
spec:
  capacity: {storage: $size}
  accessModes: [$mode]
  storageClassName: standard
  persistentVolumeReclaimPolicy: Delete
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: $namespace, name: $name, uid: $uid}
  local: {path: $DIR/volumes/$uid}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$NODE]}]}]}}
E
    done
    $KUBECTL get pv -o jsonpath='{range .items[?(@.status.phase=="Released")]}{.spec.storageClassName} {.spec.claimRef.uid}{"\n"}{end}' |
    while read -r class uid; do
      [ "$class" = standard ] && $KUBECTL delete pv "pvc-$uid" --wait=false && rm -rf "$DIR/volumes/$uid"
    done
  done
}

# --- down -----------------------------------------------------------------------------------------------------------------------------------

down() {
  need_root
  if [ -s "$DIR/init.pid" ]; then
    local pid inner; pid=$(cat "$DIR/init.pid")
    # Only what is ours by its command line: the number may be another process's by now.
    if grep -qz inside "/proc/$pid/cmdline" 2>/dev/null; then
      inner=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true) # PID 1 there, which is gone when all others there are
      kill -KILL "$pid" # the end of unshare takes all in its namespace along
      # What still ends writes into the folder that is removed.
      for pid in $pid $inner; do
        while kill -0 "$pid" 2>/dev/null; do sleep .1; done
      done
    fi
  fi
  ip netns del $NETWORK 2>/dev/null || true
  ip link del $OUTSIDE 2>/dev/null || true
  local try
  for try in 1 2 3 4 5 6 7 8 9 10; do
    find /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name kubepods 2>/dev/null)" ] && break
    sleep .3
  done
  rmdir $STRAY 2>/dev/null || true
  rm -rf "$DIR"
}

status() { $KUBECTL get nodes,pods -A -o wide; }

case ${1:-} in
  packages | build | up | down | status | inside | volumes) "$1" ;;
  load) shift; load "$@" ;;
  *) sed -n '2,12s/^# \{0,1\}//p' "$SELF"; exit 2 ;;
esac
