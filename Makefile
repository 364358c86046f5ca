# The commands that people and CI use. Tools that are used less often have a --help of their own (CONTRIBUTING.md).
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON := tools/python
# The project's Python, Helm, kubectl and the linters on PATH, and the cluster's kubeconfig when it is up.
RUN := $(PYTHON) -m tools.cluster exec
.PHONY: help up down status test test-long lint types unit service learning charts delivery e2e docs generate images-list fmt commits install-helm docker

help: ## List the verbs
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

up: ## Start a cluster, train, serve and query a model; run again to repair or upgrade
	@$(PYTHON) -m tools.cluster up

down: ## Remove the cluster, but keep the build cache
	@$(PYTHON) -m tools.cluster down

status: ## Show what runs, and the cause of what does not
	@$(PYTHON) -m tools.cluster status

# Tests run side by side, each line with its name, and then those that need a cluster which nothing else loads. The tests
# of the cluster wait for pods, so the others are nice: they take the CPU that is left.
# The last lines repeat the name of each failed test, because thousands of lines separate it from the end.
RESULTS := build/test
kept = 2>&1 | tee $(RESULTS)/$(1).log
named = $(call kept,$(1)) | while IFS= read -r line; do printf '%-6s | %s\n' $(1) "$$line"; done
E2E := $(RUN) python -m pytest tests/e2e
shared = $(E2E) --numprocesses=3 --dist=loadfile --verbose -m "not long and not alone"
alone = $(E2E) -m "alone and not long"
test: ## Run all tests
	@rm -rf $(RESULTS); mkdir -p $(RESULTS); $(PYTHON) -c ""; \
	$(MAKE) --no-print-directory --keep-going lint types $(call named,lint) & lint=$$!; \
	$(MAKE) --no-print-directory up && wait $$lint || { wait; exit 1; }; \
	failed=0; \
	nice $(MAKE) --no-print-directory service $(call named,app) & app=$$!; \
	nice $(MAKE) --no-print-directory --keep-going charts delivery learning $(call named,others) & others=$$!; \
	$(shared) $(call named,e2e) || failed=1; \
	wait $$app || failed=1; \
	wait $$others || failed=1; \
	$(alone) $(call kept,alone) || failed=1; \
	grep --no-filename --extended-regexp '^(FAILED|ERROR) ' $(RESULTS)/*.log; \
	exit $$failed

test-long: up ## Run the long soaks and drills
	@$(RUN) python -m pytest -m long

lint: ## Check Python, imports, shell, YAML, Dockerfiles, workflows, charts and language
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@.venv/bin/lint-imports --no-logo --no-cache
	@$(PYTHON) -m yamllint --strict .github .yamllint .hadolint.yaml ct.yaml charts docs/how-to/gitops docs/how-to/deploy-access tests tools
	@$(RUN) shellcheck tools/python .ci/run tools/cluster/rootfs/usr/local/bin/*
	@$(RUN) hadolint docker/*.Dockerfile tools/cluster/dockerfiles/*.Dockerfile
	@$(RUN) actionlint
	@$(RUN) zizmor --offline .github
	@$(RUN) ct lint
	@$(PYTHON) -m tools.lint.language --errors

# For CI: COMMITS=<base>..<head>
commits:
	@$(PYTHON) -m tools.lint.commits "$(COMMITS)"

types: ## Check types
	@$(PYTHON) -m mypy

unit: service learning ## Test the service and the training code

service:
	@$(PYTHON) -m pytest -m "not long" tests/app tests/tools/bench

learning:
	@$(PYTHON) -m pytest -m "not long" tests/mlflow_server tests/training

charts: ## Test the charts without a cluster
	@$(RUN) python -m pytest -m "not long" tests/charts

e2e: up ## Test the releases on the cluster
	@failed=0; $(shared) || failed=1; $(alone) || failed=1; exit $$failed

docs: ## Build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --site-dir build/site

delivery: ## Test workflows, documentation, linters, release checks and GitOps manifests
	@$(RUN) python -m pytest -m "not long" tests/delivery tests/docs tests/tools/cluster tests/tools/generate tests/tools/lint tests/tools/release

# For CI: the images in a Docker engine, without a cluster. BUILT_IMAGES=<file> tests images that were pushed.
docker:
	@$(RUN) python -m pytest -m long tests/docker

# A step of a release (`tools/python -m tools.release --help`), as docs/how-to/release.md lists them: make release-check, -images, -charts, -sign, -verify, -deploy, …
release-%:
	@$(PYTHON) -m tools.release $*

# The Helm that HELM_VERSION names (v3.22.0, v4.3.1), for CI; built so that it knows its version.
install-helm:
	@go install -ldflags "-X helm.sh/helm/$(firstword $(subst ., ,$(HELM_VERSION)))/internal/version.version=$(HELM_VERSION)" \
		helm.sh/helm/$(firstword $(subst ., ,$(HELM_VERSION)))/cmd/helm@$(HELM_VERSION)

generate: ## Write the generated files: schemas, chart READMEs, golden renders
	@$(RUN) python -m tools.generate

# For a mirror of the images (docs/reference/platforms.md).
images-list:
	@$(RUN) python -m tools.image_list

fmt: ## Format the Python code
	@$(PYTHON) -m ruff format
	@$(PYTHON) -m ruff check --fix
