//! How often which deployment is chosen, in whole numbers.

use std::collections::BTreeMap;

use super::deployment::Deployment;

/// The most a weight can be here.
const MOST_WEIGHT: u64 = 1000;

/// Returns each deployment's share. LiteLLM picks by weight where there is one, else by requests,
/// else by tokens per minute, else all alike.
pub(super) fn of(group: &[Deployment]) -> Vec<f64> {
    let by = |of: fn(&Deployment) -> Option<f64>| {
        let shares: Vec<Option<f64>> = group.iter().map(of).collect();
        shares.iter().any(Option::is_some).then_some(shares)
    };
    let shares = by(|one| one.weight)
        .or_else(|| by(|one| one.rpm))
        .or_else(|| by(|one| one.tpm));
    match shares {
        Some(shares) => shares.into_iter().map(Option::unwrap_or_default).collect(),
        None => vec![1.0; group.len()],
    }
}

/// Returns weights for deployments with these shares. Only those of one `order` are chosen from
/// together, so only their proportions matter.
pub(super) fn weights(deployments: &[(&Deployment, f64)]) -> Vec<u64> {
    let mut orders: BTreeMap<Option<i32>, Vec<usize>> = BTreeMap::new();
    for (place, (one, _)) in deployments.iter().enumerate() {
        orders.entry(one.order).or_default().push(place);
    }
    let mut weights = vec![1; deployments.len()];
    for places in orders.into_values() {
        let shares: Vec<f64> = places.iter().map(|place| deployments[*place].1).collect();
        for (place, weight) in places.into_iter().zip(scaled(&shares)) {
            weights[place] = weight;
        }
    }
    weights
}

/// Returns the smallest weights in the proportions of `shares`, or as near as 1 to 1000 come to them.
fn scaled(shares: &[f64]) -> Vec<u64> {
    let most = shares.iter().copied().fold(0.0, f64::max);
    if shares.len() < 2 || most == 0.0 {
        return vec![1; shares.len()];
    }
    let exact = (0..=6).find_map(|digits| exact(shares, 10_f64.powi(digits)));
    exact.unwrap_or_else(|| {
        let near = shares.iter().map(|share| {
            let near = whole(share / most * 1000.0).unwrap_or(1);
            near.clamp(1, MOST_WEIGHT)
        });
        near.collect()
    })
}

/// Returns the weights if all shares are whole once multiplied with `scale`.
fn exact(shares: &[f64], scale: f64) -> Option<Vec<u64>> {
    let numbers = shares.iter().map(|share| {
        let (number, near) = (share * scale, (share * scale).round());
        let is_whole = near >= 1.0 && (number - near).abs() <= near * 1e-9;
        is_whole.then(|| whole(near)).flatten()
    });
    let numbers = numbers.collect::<Option<Vec<u64>>>()?;
    let divisor = numbers.iter().copied().fold(0, greatest_common_divisor);
    let weights = numbers.into_iter().map(|number| number / divisor.max(1));
    let weights: Vec<u64> = weights.collect();
    let fit = weights.iter().all(|weight| *weight <= MOST_WEIGHT);
    fit.then_some(weights)
}

fn whole(number: f64) -> Option<u64> {
    format!("{number:.0}").parse().ok()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => greatest_common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_are_kept() {
        for (shares, expected) in [
            (&[0.9, 0.1][..], &[9, 1][..]),
            (&[0.1 + 0.2, 0.7], &[3, 7]),
            (&[0.333, 0.667], &[333, 667]),
            (&[0.5, 0.25, 0.25], &[2, 1, 1]),
            (&[1.0 / 3.0, 2.0 / 3.0], &[500, 1000]),
            (&[1000.0, 1.0], &[1000, 1]),
            (&[1001.0, 1.0], &[1000, 1]),
            (&[1e300, 1.0], &[1000, 1]),
            (&[f64::MAX, f64::MAX], &[1000, 1000]),
            (&[7.0, 0.0], &[1000, 1]),
            (&[0.0, 0.0], &[1, 1]),
            (&[0.123_456_789], &[1]),
            (&[], &[]),
        ] {
            assert_eq!(scaled(shares), expected, "{shares:?}");
        }
    }
}
