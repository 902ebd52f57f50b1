//! A queue that allocates nothing for one item, and holds nothing while empty.

use std::collections::VecDeque;

/// Items in the order in which they came.
pub(super) enum Waiting<T> {
    /// None, or one alone.
    Alone(Option<T>),
    /// Never empty. Boxed, since nearly every socket does without.
    #[expect(clippy::box_collection, reason = "an idle session pays for its words")]
    Many(Box<VecDeque<T>>),
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self::Alone(None)
    }
}

impl<T> Waiting<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Alone(item) => usize::from(item.is_some()),
            Self::Many(items) => items.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Alone(None))
    }

    pub(super) fn push_back(&mut self, item: T) {
        match self {
            Self::Alone(alone) => match alone.take() {
                None => *alone = Some(item),
                Some(first) => *self = Self::Many(Box::new(VecDeque::from([first, item]))),
            },
            Self::Many(items) => items.push_back(item),
        }
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.iter().next()
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        match self {
            Self::Alone(alone) => alone.take(),
            Self::Many(items) => {
                let first = items.pop_front();
                if items.is_empty() {
                    *self = Self::default();
                }
                first
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (front, back) = match self {
            Self::Alone(alone) => (alone.as_slice(), Default::default()),
            Self::Many(items) => items.as_slices(),
        };
        front.iter().chain(back)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let (front, back) = match self {
            Self::Alone(alone) => (alone.as_mut_slice(), Default::default()),
            Self::Many(items) => items.as_mut_slices(),
        };
        front.iter_mut().chain(back)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A plain deque beside it is the model.
        #[test]
        fn it_is_a_queue(steps in proptest::collection::vec(proptest::option::weighted(0.6, 0_u32..1_000), 0..60)) {
            let (mut waiting, mut model) = (Waiting::default(), VecDeque::new());
            for step in steps {
                match step {
                    Some(item) => {
                        waiting.push_back(item);
                        model.push_back(item);
                    }
                    None => prop_assert_eq!(waiting.pop_front(), model.pop_front()),
                }
                waiting.iter_mut().chain(model.iter_mut()).for_each(|item| *item += 1);
                prop_assert_eq!(waiting.iter().collect::<Vec<_>>(), model.iter().collect::<Vec<_>>());
                prop_assert_eq!((waiting.len(), waiting.is_empty(), waiting.front()), (model.len(), model.is_empty(), model.front()));
            }
        }
    }

    #[test]
    fn nothing_is_held_while_empty() {
        let mut waiting = Waiting::default();
        (0..100).for_each(|item| waiting.push_back(item));
        while waiting.pop_front().is_some() {}
        assert!(matches!(waiting, Waiting::Alone(None)));
    }
}
