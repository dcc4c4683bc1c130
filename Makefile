# Three commands; everything else is plain cargo. The scripts are short: read them.
.PHONY: bench demo test

demo: ## build, then serve a gateway in front of two simulated engines
	@scripts/demo.sh $(ARGS)

test: ## run every test
	@scripts/test.sh $(ARGS)

bench: ## measure the cost of this gateway and of others, write docs/performance.md
	@scripts/bench.sh $(ARGS)
