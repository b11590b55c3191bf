//! The groups there are. Users name them, so there are at most so many: what goes beyond is counted together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::group::Group;

/// The most groups that are told apart.
const MAX_GROUPS: usize = 100;
/// The group of subscriptions that have none.
const NONE: &str = "(none)";
/// The group of those beyond [`MAX_GROUPS`].
const OTHERS: &str = "(others)";

/// All that are known.
#[derive(Debug)]
pub(super) struct Groups(Mutex<BTreeMap<Arc<str>, Arc<Group>>>);

impl Default for Groups {
    fn default() -> Self {
        let none = Arc::new(Group::new(NONE));
        Self(Mutex::new(BTreeMap::from([(none.name.clone(), none)])))
    }
}

impl Groups {
    /// The group of that name. Where there is no room for it, those that no lane belongs to any more make room.
    pub(super) fn get(&self, name: Option<&str>) -> Arc<Group> {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut name = name.unwrap_or(NONE);
        if !groups.contains_key(name) && groups.len() > MAX_GROUPS {
            groups.retain(|name, group| Arc::strong_count(group) > 1 || &**name == NONE);
            if groups.len() > MAX_GROUPS {
                name = OTHERS;
            }
        }
        if let Some(group) = groups.get(name) {
            return group.clone();
        }
        let group = Arc::new(Group::new(name));
        groups.insert(group.name.clone(), group.clone());
        group
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Arc<Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_and_those_without_lanes_make_room() {
        let groups = Groups::default();
        let mut held: Vec<Arc<Group>> = (0..MAX_GROUPS).map(|i| groups.get(Some(&i.to_string()))).collect();
        assert_eq!(&*groups.get(None).name, NONE);
        assert_eq!(&*groups.get(Some("7")).name, "7", "known");
        assert_eq!(&*groups.get(Some("late")).name, OTHERS);
        assert_eq!(&*groups.get(Some("later")).name, OTHERS);
        assert_eq!(groups.all().len(), MAX_GROUPS + 2);
        held.remove(0);
        assert_eq!(&*groups.get(Some("late")).name, "late", "in the place of one that is not used any more");
        assert_eq!(&*groups.get(None).name, NONE);
    }
}
