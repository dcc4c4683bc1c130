//! From a model's name to a backend, in a catalog of 64 models.

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use llmproxy::balance::{Backend, IndexSet};
use llmproxy::route::{Catalog, Group};

use super::balance::{SETTINGS, clock};
use super::{Call, Part, configured};

pub(super) const PARTS: &[Part] = &[
    part("plan/exact", || plan("model-40", 1)),
    part("plan/pattern", || plan("vendor/model-40-instruct", 1)),
    // The model's own routes have failed: the third is a fallback's.
    part("plan/fallbacks", || plan("coder", 3)),
];

const fn part(name: &'static str, make: fn() -> Result<Call>) -> Part {
    Part {
        name,
        bytes: 0,
        make,
    }
}

const MODELS: &str = r#"
  coder:
    target_model: Qwen/Qwen3-Coder-30B-A3B-Instruct
    routes: [{backend: b1, weight: 3}, {backend: b2}]
    fallbacks: [model-3, model-4]
  "vendor/*": {routes: [{backend: b5, model: "*"}, {backend: b6, priority: 1}]}
  "claude-*": {routes: [{backend: b7}]}
  "*-embed": {routes: [{backend: b8}]}
default_model: coder
"#;

/// Finds the model, makes its plan and picks until `attempts` were made.
fn plan(name: &'static str, attempts: usize) -> Result<Call> {
    fastrand::seed(1);
    let catalog = catalog()?;
    Ok(Box::new(move || {
        let found = catalog.find(Group::ROOT, black_box(name));
        let plan = catalog.plan(&found.context("it is there")?);
        let mut tried = IndexSet::new();
        let mut model = None;
        for _ in 0..attempts {
            let pick = plan.pick(&tried).context("a route is left")?;
            tried.add(pick.at);
            model = plan.model(pick.at);
            black_box(plan.backend(pick.at));
        }
        ensure!(attempts == 1 || model.is_some(), "it has a name of its own");
        black_box(model);
        Ok(())
    }))
}

fn catalog() -> Result<Catalog> {
    let mut text = String::from("backends:\n");
    for number in 1..=8 {
        writeln!(
            text,
            "  - {{name: b{number}, url: 'http://10.0.0.{number}:8000'}}"
        )?;
    }
    text.push_str("models:");
    for number in 1..=60 {
        let (one, other) = (number % 8 + 1, (number + 3) % 8 + 1);
        write!(
            text,
            "\n  model-{number}: {{routes: [{{backend: b{one}}}, {{backend: b{other}, model: other}}]}}"
        )?;
    }
    text.push_str(MODELS);
    let config = configured(&text)?;
    let clock = clock();
    let backends = config.backends.iter().map(|backend| {
        let name = backend.name.as_str();
        let clock = clock.clone();
        Arc::new(Backend::with_clock(name, backend.weight, SETTINGS, clock))
    });
    let backends: Vec<_> = backends.collect();
    clock.advance(std::time::Duration::from_secs(3600));
    Ok(Catalog::build(&config, &backends, None, config.open))
}
