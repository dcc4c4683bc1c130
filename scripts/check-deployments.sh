#!/usr/bin/env bash
# Checks the files under deployments/ and grafana/ with whatever checkers this machine has. Each one says when it was skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

have() { command -v "$1" >/dev/null 2>&1; }
skip() { echo "check-deployments: $1: skipped"; }

if have python3 && python3 -c 'import yaml' 2>/dev/null; then
  python3 - <<'PY'
import json, pathlib, yaml

for path in sorted([*pathlib.Path("deployments").rglob("*.y*ml"), *pathlib.Path("grafana").rglob("*.y*ml")]):
    if not [document for document in yaml.safe_load_all(path.read_text()) if document]:
        raise SystemExit(f"{path}: empty")
dashboard = json.loads(pathlib.Path("grafana/dashboard.json").read_text())
ids = [panel["id"] for panel in dashboard["panels"]]
if len(ids) != len(set(ids)):
    raise SystemExit("grafana/dashboard.json: two panels have the same id")
print(f"check-deployments: YAML and JSON parse, {len(ids)} panels")
PY
else
  skip "python3 with PyYAML is not installed, YAML syntax"
fi

# Prints the dashboard's queries as recording rules, which promtool can check; Grafana's variables become values.
dashboard_rules() {
  python3 - <<'PY'
import json, pathlib, re

panels = json.loads(pathlib.Path("grafana/dashboard.json").read_text())["panels"]
queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
plain = [re.sub(r"\$(backend|path)", ".*", re.sub(r"\$__(rate_interval|range)", "5m", query)) for query in queries]
rules = [{"record": f"dashboard:query:{number}", "expr": query} for number, query in enumerate(plain)]
print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
PY
}

if have promtool; then
  promtool check config --syntax-only deployments/prometheus.yml
  promtool check rules deployments/alerts.yml
  promtool test rules deployments/alerts_test.yml
  if have python3; then
    queries=$(mktemp)
    trap 'rm -f "$queries"' EXIT
    dashboard_rules >"$queries"
    promtool check rules "$queries" >/dev/null || { promtool check rules "$queries" >&2; exit 1; }
    echo "check-deployments: the dashboard's queries are valid PromQL"
  fi
else
  skip "promtool is not installed, prometheus.yml, alerts.yml and alerts_test.yml"
fi

if have kubectl; then
  kubectl kustomize deployments/kubernetes >/dev/null && echo "check-deployments: kustomize builds"
else
  skip "kubectl is not installed, kustomization"
fi

if have docker && docker compose version >/dev/null 2>&1; then
  docker compose -f deployments/docker-compose.yml config --quiet && echo "check-deployments: compose file is valid"
else
  skip "docker compose is not installed, docker-compose.yml"
fi
