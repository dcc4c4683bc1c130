//! Names that look like one that does not exist.

/// How many are told.
const MOST: usize = 3;
/// Longer names than this are no slip of the finger, and comparing them costs time.
const LONGEST: usize = 200;

/// Returns those of `names` that look like `name`, the likest first, in any case of letters.
pub(super) fn near<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    if name.is_empty() || name.len() > LONGEST {
        return Vec::new();
    }
    let asked = name.to_lowercase();
    let mut alike: Vec<(usize, &str)> = names
        .filter_map(|known| likeness(&asked, &known.to_lowercase()).map(|far| (far, known)))
        .collect();
    // The sort keeps the order of the configuration among equals.
    alike.sort_by_key(|(far, _)| *far);
    alike.truncate(MOST);
    alike
        .into_iter()
        .map(|(_, known)| known.to_owned())
        .collect()
}

/// Returns how far two names are from each other; `None` if nobody would take one for the other.
///
/// A third of the longer one may differ (`gpt4o` and `gpt-4o`); or one is a part of the other, which
/// is how versions are left out (`llama-3` and `llama-3-70b-instruct`).
fn likeness(asked: &str, known: &str) -> Option<usize> {
    if known.len() > LONGEST {
        return None;
    }
    let shorter = asked.len().min(known.len());
    let part = shorter > 3 && (known.contains(asked) || asked.contains(known));
    let (one, other) = (asked.chars().count(), known.chars().count());
    let longer = one.max(other);
    // They differ by at least the difference of their lengths.
    if !part && one.abs_diff(other) > (longer / 3).max(1) {
        return None;
    }
    let distance = strsim::osa_distance(asked, known);
    (part || distance <= (longer / 3).max(1)).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Vec<String> {
        let known = [
            "gpt-4o",
            "GPT-4.1",
            "llama-3-70b-instruct",
            "qwen",
            "claude-sonnet",
            "gpt-4o-mini",
        ];
        near(name, known.into_iter())
    }

    #[test]
    fn slips_other_cases_and_missing_versions_are_near() {
        assert_eq!(of("gpt4o"), ["gpt-4o"]);
        assert_eq!(of("GPT-4O"), ["gpt-4o", "GPT-4.1", "gpt-4o-mini"]);
        assert_eq!(of("llama-3"), ["llama-3-70b-instruct"]);
        assert_eq!(of("claude-sonet"), ["claude-sonnet"]);
        assert_eq!(of("qwen-2.5-coder"), ["qwen"]);
    }

    #[test]
    fn nothing_is_near_what_is_like_none() {
        for name in ["", "mistral-large", "4", "x", "o1"] {
            assert_eq!(of(name), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn names_of_absurd_length_are_not_compared() {
        let known = "a".repeat(LONGEST);
        assert_eq!(near(&known, [&*known].into_iter()).len(), 1);
        let longer = "a".repeat(LONGEST + 1);
        assert!(near(&longer, [&*known, &*longer].into_iter()).is_empty());
        assert!(near(&known, [&*longer].into_iter()).is_empty());
    }

    #[test]
    fn at_most_three_are_told_in_their_order() {
        let known = ["m-1", "m-2", "m-3", "m-4"];
        assert_eq!(near("m-5", known.into_iter()), ["m-1", "m-2", "m-3"]);
    }
}
