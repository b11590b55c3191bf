//! Makes a failing plan smaller: operations are left out as long as it still fails.

use crate::plan::Plan;

/// A smaller plan that fails too; found in so many tries, each of which leaves out a part of what is left.
pub(crate) async fn shrink(plan: &Plan, tries: usize, is_red: impl AsyncFn(&Plan) -> bool) -> Plan {
    let (mut small, mut part, mut tried) = (plan.clone(), plan.operations.len().div_ceil(2), 0);
    while part > 0 {
        let mut at = 0;
        while at < small.operations.len() {
            if tried == tries {
                return small;
            }
            tried += 1;
            let mut smaller = small.clone();
            smaller.operations.drain(at..(at + part).min(small.operations.len()));
            if is_red(&smaller).await {
                small = smaller;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    small
}

#[cfg(test)]
mod tests {
    use super::shrink;
    use crate::operation::Operation;
    use crate::plan::Plan;

    #[tokio::test]
    async fn what_does_not_matter_is_left_out_and_tries_are_bounded() {
        let operations = (0..64).map(Operation::Breathe).collect();
        let plan = Plan { seed: 1, limit: None, operations };
        let needs = async |plan: &Plan| [17, 40].iter().all(|ms| plan.operations.contains(&Operation::Breathe(*ms)));
        let small = shrink(&plan, 1_000, needs).await;
        assert_eq!(small.operations, [Operation::Breathe(17), Operation::Breathe(40)]);
        assert!(shrink(&plan, 3, needs).await.operations.len() >= 16);
    }
}
