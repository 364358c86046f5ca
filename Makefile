# Everything people and CI do; each verb is one command, and CI calls the same ones.
.DEFAULT_GOAL := help
PYTHON := tests/cluster/python
# The project's Python, Helm, kubectl and the linters on PATH, and the cluster's kubeconfig when it is up.
RUN := $(PYTHON) -m tests.cluster exec
.PHONY: help up down status test test-long test-umbrella lint types unit charts delivery e2e report bench generate fmt install-helm release-rehearsal

help: ## List the verbs
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

up: ## Start a cluster, train a model, serve it, predict; again: repair and upgrade
	@$(PYTHON) -m tests.cluster up

down: ## Take the cluster away; keep what is built
	@$(PYTHON) -m tests.cluster down

status: ## Show what runs, and why what does not
	@$(PYTHON) -m tests.cluster status

test: lint types up ## Run all tests
	@$(RUN) python -m pytest -m "not long"

test-long: up ## Run the soaks and drills that take long
	@$(RUN) python -m pytest -m long

test-umbrella: up ## Test the umbrella with the real kube-prometheus-stack: KPS_CHART=<its package>
	@test -f "$(KPS_CHART)" || { echo "KPS_CHART=$(KPS_CHART) is no file: name the package of kube-prometheus-stack"; exit 1; }
	@$(RUN) python -m pytest tests/charts/test_stack.py tests/e2e/test_stack.py

lint: ## Check Python, shell, YAML, Dockerfiles, workflows and charts
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m yamllint --strict .github .yamllint .hadolint.yaml ct.yaml charts docs/gitops tests
	@$(RUN) shellcheck tests/cluster/python .ci/run
	@$(RUN) hadolint docker/*.Dockerfile tests/cluster/dockerfiles/*.Dockerfile docs/custom-image/Dockerfile
	@$(RUN) actionlint
	@$(RUN) zizmor --offline --quiet .github
	@$(RUN) ct lint

types: ## Check types
	@$(PYTHON) -m mypy

unit: ## Test the service and the training code
	@$(PYTHON) -m pytest -m "not long" tests/app tests/bench tests/mlflow_server tests/training

charts: ## Test the charts without a cluster
	@$(RUN) python -m pytest -m "not long" tests/charts

e2e: up ## Test what runs on the cluster
	@$(RUN) python -m pytest -m "not long" tests/e2e

report: ## Draw live distributions beside the reference: NAMESPACE=models, PROMETHEUS=<a URL> for another
	@$(RUN) python -m tests.e2e.report $(NAMESPACE) --prometheus "$(PROMETHEUS)"

delivery: ## Test workflows, release checks and GitOps manifests
	@$(RUN) python -m pytest -m "not long" tests/delivery

release-rehearsal: up ## Rehearse a release: push, sign, verify, deploy and drills, against a registry on loopback
	@$(RUN) python -m pytest -m long -rP tests/delivery tests/e2e/test_deploy.py

# A step of a release, as docs/release.md lists them: make release-check, -images, -charts, -sign, -verify, -deploy, …
release-%:
	@$(PYTHON) -m tests.delivery $*

install-helm: ## Install the Helm that HELM_VERSION names (v3.22.0, v4.3.1), with its version in it
	@go install -ldflags "-X helm.sh/helm/$(firstword $(subst ., ,$(HELM_VERSION)))/internal/version.version=$(HELM_VERSION)" \
		helm.sh/helm/$(firstword $(subst ., ,$(HELM_VERSION)))/cmd/helm@$(HELM_VERSION)

bench: ## Measure the service and its rivals in one run of 25 minutes
	@$(PYTHON) -m tests.bench
	@$(PYTHON) -m tests.bench.render
	@$(PYTHON) -m tests.bench.jobs
	@$(PYTHON) -m tests.bench metrics

generate: ## Write the generated files: schemas, chart READMEs, golden renders
	@$(RUN) python -m tests.charts.generated

fmt: ## Format the Python code
	@$(PYTHON) -m ruff format
	@$(PYTHON) -m ruff check --fix
