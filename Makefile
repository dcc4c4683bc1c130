# Two commands; everything else is plain cargo. The scripts are short: read them.
.PHONY: demo test

demo: ## build, then serve a gateway in front of two simulated engines
	@scripts/demo.sh $(ARGS)

test: ## run every test
	@scripts/test.sh $(ARGS)
