# What there is to do with this repository. `make help` lists it.

GO ?= go
# Where the real cloud is: testutil/devcloud unless told otherwise.
STAFFELN_DEVCLOUD ?= http://127.0.0.1:5000/v3

# Run one after the other (-p 1): they share the cloud.
E2E   := ./testutil/behaviour ./testutil/contract ./runtime/openstack
BENCH  = $(sort $(dir $(shell grep -rlE --include='*_test.go' '^func Benchmark' .)))
# Go's race detector needs a C compiler.
RACE   = $(shell command -v $$($(GO) env CC) >/dev/null && echo -race)

# How long soak plays, and how long fuzz tries each function.
FOR      ?= 1h
FUZZTIME ?= 20s

.PHONY: help demo run test test-long check services bench image devcloud devcloud-down e2e e2e-role soak fuzz mutate vuln

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$(printf '\t') read -r target what; do \
		printf '  make %-14s %s\n' "$$target" "$$what"; done

demo: ## the main job on a simulated cloud, live on the terminal; needs nothing but Go
	@$(GO) run ./testutil/demo

run: ## every function in one process against the cloud that OS_* name; settings in docs/settings.md
	@$(GO) run ./local run

test: services ## every rule, contract and scenario once; starts a Redis, a RabbitMQ and a mail server of its own on free ports
	@test -n "$(RACE)" || echo "make test: no C compiler here, so the tests run without the race detector" >&2
	$(GO) run ./testutil/gotest $(RACE) -short -shuffle=on -timeout 20m ./...

test-long: services ## what needs time: a kill at every step, hundreds of random histories, services that break
	$(GO) run ./testutil/gotest -shuffle=on -timeout 40m ./functions ./testutil/simulate
	$(GO) run ./testutil/gotest $(RACE) -run Fire -timeout 20m ./testutil/behaviour

check: ## format, vet, staticcheck, who may import whom, go.mod, and that docs and code agree
	@files=$$(gofmt -l .); test -z "$$files" || { echo "make check: run gofmt -w on:" $$files >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags 'e2e role' ./...
	$(GO) tool staticcheck -tags 'e2e role' ./...
	$(GO) mod tidy -diff
	$(GO) test -count=1 -run 'House|Docs|Manual|Keys' ./testutil ./runtime/config ./runtime/ledger ./runtime/metrics

services: ## install what the tests start from Debian: Redis, RabbitMQ, oslo.policy, a mail server, a browser
	@.ci/services

bench: services ## the benchmarks, with their ratios
	$(GO) test -run '^$$' -bench . $(BENCH)

image: ## the static binaries bin/staffeln and bin/function; container images are made of them
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/staffeln ./local
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/function ./runtime/cmd/function
	@echo "There is no image to be built yet: bin/function is static and is all that a FROM scratch image needs."

devcloud: ## a real one-machine OpenStack on Ceph, from nothing in three minutes (root, Debian 12)
	testutil/devcloud/up
	testutil/devcloud/seed

devcloud-down: ## stop it; testutil/devcloud/down --purge removes its state, too
	testutil/devcloud/down

e2e: export STAFFELN_DEVCLOUD := $(STAFFELN_DEVCLOUD)
e2e: services ## the behavioural suite and the contracts on the cloud of make devcloud, or STAFFELN_DEVCLOUD
	$(GO) test -tags e2e -count=1 -timeout 70m -p 1 -run 'RealCloud|E2E' $(E2E)

e2e-role: export STAFFELN_DEVCLOUD := $(STAFFELN_DEVCLOUD)
e2e-role: services ## the main scenarios as a user that may do nothing else; changes the policy of make devcloud's cloud
	$(GO) test -tags 'e2e role' -count=1 -timeout 40m -run ARoleOfItsOwn ./testutil/behaviour

soak: ## random histories of whole clouds in which everything fails, for FOR (1h)
	$(GO) run ./testutil/soak --histories 0 --for $(FOR) --from $$(date +%s)

fuzz: ## every fuzz function in turn, for FUZZTIME each (20s); what it finds is kept in testdata/fuzz
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*:func | |' | sort | while read -r dir name; do \
		echo "$$dir $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x -parallel 1 "$$dir" </dev/null || exit 1; \
	done

mutate: services ## break every rule on purpose, and see that a test notices
	$(GO) run ./testutil/mutate

vuln: ## known vulnerabilities in what is used of the libraries; needs vuln.go.dev
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 -tags e2e ./...
