# Everything needs Go, and root or sudo where packages are missing. See scripts/setup for what is installed.

.PHONY: build image demo test fuzz-oracle lint bench bench-quick bench-growth bench-floors setup clean

build: ## the program, one static file
	scripts/build bin/gobuild

image: ## gobuild's own image, in bin/gobuild-image.tar for docker load; IMAGE=... PUSH=1 pushes it (see scripts/image)
	IMAGE='$(IMAGE)' PUSH='$(PUSH)' ARCHES='$(ARCHES)' scripts/image

demo: build ## build, push, pull and run an image on this machine alone
	scripts/demo

setup: ## what tests need
	scripts/setup test

test: ## vet and all tests, the comparison with BuildKit among them
	scripts/test

fuzz-oracle: ## random builds with gobuild and BuildKit, for TIME=10m from SEED=...
	TIME='$(TIME)' SEED='$(SEED)' scripts/fuzz-oracle

lint: ## linters and known vulnerabilities
	scripts/lint

bench: build ## gobuild against BuildKit and Buildah, and in a container; DIR= a folder on a quiet file system
	scripts/bench $(if $(DIR),-dir "$(DIR)")

bench-quick: ## what typical builds cost in requests, processes, bytes and allocations, against limits
	scripts/bench-quick

bench-growth: build ## gobuild's time and memory as builds grow; DIR= as above, LARGE=1 for the largest sizes
	scripts/bench $(if $(DIR),-dir "$(DIR)") $(if $(LARGE),-large) growth

bench-floors: build ## what the machine can do at best; DIR= as above
	scripts/bench $(if $(DIR),-dir "$(DIR)") floors

clean: ## what make made; .tools stays
	rm -rf bin
