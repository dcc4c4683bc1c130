use super::*;

/// A whole answer of which the engine counted this much.
fn answer(prompt: u64, completion: u64, content_bytes: u64) -> Summary {
    Summary {
        usage: Some(Usage::new(prompt, completion)),
        source: UsageSource::Final,
        lacks_prompts: false,
        events: 0,
        content_bytes,
        reasoning_bytes: 0,
        model: None,
        response_id: None,
        ended: true,
        error: false,
    }
}

/// A number that is normal with mean 0 and deviation 1.
fn normal(random: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

/// Requests whose lengths are log-normal, to a model with this template and these texts.
struct Traffic {
    random: fastrand::Rng,
    overhead: f64,
    prompt: f64,
    completion: f64,
}

impl Traffic {
    /// Bytes read and written, and the tokens they really are. The text of one request differs from
    /// that of another by some percent.
    fn next(&mut self) -> (u64, u64, Summary) {
        let mut text = |mean: f64, rate: f64| {
            let bytes = (mean * normal(&mut self.random).exp()).max(8.0).round();
            let own = rate * (1.0 + 0.04 * normal(&mut self.random));
            (bytes, (bytes / own).ceil().max(1.0))
        };
        let (read, prompt) = text(1500.0, self.prompt);
        let (wrote, completion) = text(800.0, self.completion);
        let seen = answer(
            (prompt + self.overhead) as u64,
            completion as u64,
            wrote as u64,
        );
        (read as u64, wrote as u64, seen)
    }
}

fn off(guess: u64, truth: u64) -> f64 {
    (guess as f64 - truth as f64).abs() / truth as f64
}

#[test]
fn estimates_are_near_after_two_hundred_answers() {
    for (overhead, prompt, completion, seed) in [
        (10.0, 4.4, 4.6, 1),
        (40.0, 3.1, 3.3, 2),
        (25.0, 1.6, 2.0, 3),
        (0.0, 6.0, 5.0, 4),
        (30.0, 4.0, 4.0, 5),
    ] {
        let random = fastrand::Rng::with_seed(seed);
        let mut traffic = Traffic {
            random,
            overhead,
            prompt,
            completion,
        };
        let calibration = Calibration::default();
        for _ in 0..200 {
            let (read, _, seen) = traffic.next();
            calibration.learn("m", read, &seen);
        }
        let (mut prompts, mut completions) = (0.0, 0.0);
        for _ in 0..1000 {
            let (read, wrote, seen) = traffic.next();
            let guess = calibration.rates("m").estimate(read, wrote);
            let truth = seen.usage.unwrap();
            prompts += off(guess.prompt, truth.prompt);
            completions += off(guess.completion, truth.completion);
        }
        let case = format!(
            "{overhead} + bytes / {prompt}: {:?}",
            calibration.rates("m")
        );
        assert!(prompts / 1000.0 <= 0.05, "{prompts} in {case}");
        assert!(completions / 1000.0 <= 0.05, "{completions} in {case}");
    }
}

#[test]
fn what_was_never_heard_of_has_four_bytes_per_token() {
    let calibration = Calibration::default();
    assert_eq!(calibration.rates("m"), Rates::default());
    let usage = Rates::default().estimate(9, 5);
    assert_eq!((usage.prompt, usage.completion, usage.total), (3, 2, 5));
    assert_eq!(Rates::default().estimate(0, 0), Usage::default());
    let huge = Rates::default().estimate(u64::MAX, u64::MAX);
    assert_eq!(huge.total, 1 << 63);
}

#[test]
fn models_do_not_learn_from_each_other() {
    let calibration = Calibration::default();
    for _ in 0..200 {
        calibration.learn("dense", 6000, &answer(1000, 1000, 6000));
        calibration.learn("wide", 2000, &answer(1000, 1000, 2000));
    }
    let dense = calibration.rates("dense").estimate(6000, 6000);
    assert!(off(dense.prompt, 1000) < 0.05 && off(dense.completion, 1000) < 0.05);
    let wide = calibration.rates("wide").estimate(2000, 2000);
    assert!(off(wide.prompt, 1000) < 0.05 && off(wide.completion, 1000) < 0.05);
}

#[test]
fn an_estimate_teaches_nothing() {
    let calibration = Calibration::default();
    let whole = answer(100, 100, 1000);
    for useless in [
        Summary {
            source: UsageSource::Continuous,
            ..whole.clone()
        },
        Summary {
            source: UsageSource::Estimated,
            ..whole.clone()
        },
        Summary {
            usage: None,
            ..whole.clone()
        },
        Summary {
            ended: false,
            ..whole.clone()
        },
        Summary {
            error: true,
            ..whole.clone()
        },
    ] {
        calibration.learn("m", 1000, &useless);
        assert_eq!(calibration.rates("m"), Rates::default(), "{useless:?}");
    }
    calibration.learn("m", 1000, &whole);
    assert_ne!(calibration.rates("m"), Rates::default());
}

#[test]
fn reasoning_that_is_not_shown_is_not_taken_for_text() {
    let (hides, shows) = (Calibration::default(), Calibration::default());
    let usage = Usage {
        reasoning: 400,
        ..Usage::new(10, 500)
    };
    let whole = Summary {
        usage: Some(usage),
        ..answer(0, 0, 500)
    };
    for _ in 0..100 {
        hides.learn("m", 40, &whole);
        let shown = Summary {
            content_bytes: 2500,
            reasoning_bytes: 2000,
            ..whole.clone()
        };
        shows.learn("m", 40, &shown);
    }
    assert_eq!(
        hides.rates("m").completion(4000),
        1000,
        "still the first guess"
    );
    assert!(off(shows.rates("m").completion(5000), 1000) < 0.01);
}

#[test]
fn tiny_answers_and_absurd_ones_move_little() {
    let calibration = Calibration::default();
    for _ in 0..50 {
        calibration.learn("m", 3000, &answer(1000, 1000, 3000));
    }
    let before = calibration.rates("m");
    for _ in 0..100 {
        calibration.learn("m", 0, &answer(0, 1, 40));
    }
    // Images, a conversation that the engine remembers, and a text without tokens.
    calibration.learn("m", 10, &answer(100_000, 0, 0));
    calibration.learn("m", 100_000, &answer(5, 0, 0));
    let after = calibration.rates("m");
    assert_eq!(
        (before.prompt, before.overhead),
        (after.prompt, after.overhead)
    );
    let moved = (after.completion - before.completion).abs() / before.completion;
    assert!(moved < 0.02, "{before:?} {after:?}");
    for _ in 0..100_000 {
        calibration.learn("m", 1000, &answer(2000, 1, u64::MAX));
    }
    let rates = calibration.rates("m");
    assert!(
        SANE.contains(&rates.prompt) && SANE.contains(&rates.completion),
        "{rates:?}"
    );
}

#[test]
fn models_beyond_the_limit_share_what_all_taught() {
    let calibration = Calibration::default();
    let whole = answer(500, 500, 1000);
    for nth in 0..MODELS + 500 {
        calibration.learn(&format!("m{nth}"), 1000, &whole);
    }
    assert_eq!(calibration.models.read().unwrap().len(), MODELS);
    let late = calibration.rates("a late one").estimate(1000, 1000);
    assert!(
        off(late.prompt, 500) < 0.05 && off(late.completion, 500) < 0.05,
        "{late:?}"
    );
}
