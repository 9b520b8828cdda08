//! A list that shares with its copies all that did not change.
//!
//! Its nodes are small on purpose. What a change copies is counted up in its owner counts, one by one, and in a large
//! registry each of those is a step into cold memory: eight at the bottom cost less than the sixteen or thirty-two of
//! the maps at hand.

use std::{hint::black_box, sync::Arc};

const BITS: u32 = 3;
const WIDTH: usize = 1 << BITS;

#[derive(Clone, Debug)]
pub struct Shelf<T> {
    root: Node<T>,
    /// Levels of branches above the leaves.
    height: u32,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<T> {
    Branch(Arc<[Node<T>; WIDTH]>),
    Leaf(Arc<[Option<T>; WIDTH]>),
    Empty,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { root: Node::Empty, height: 0, len: 0 }
    }
}

fn place(index: usize, height: u32) -> usize {
    (index >> (BITS * height)) % WIDTH
}

/// Whoever copies owners counts each of them up, and a count that is being changed has to be at hand before the next
/// one's turn comes. To look at them first brings them all at once.
pub fn fetch(owners: impl Iterator<Item = usize>) {
    black_box(owners.fold(0, usize::wrapping_add));
}

impl<T> Shelf<T> {
    pub fn get(&self, index: usize) -> Option<&T> {
        self.leaf(index)?.get(place(index, 0))?.as_ref()
    }

    fn leaf(&self, index: usize) -> Option<&[Option<T>; WIDTH]> {
        if index >= self.len {
            return None;
        }
        let (mut node, mut height) = (&self.root, self.height);
        loop {
            match node {
                Node::Branch(children) => {
                    node = children.get(place(index, height))?;
                    height -= 1;
                }
                Node::Leaf(values) => return Some(values),
                Node::Empty => return None,
            }
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).filter_map(|index| self.get(index))
    }
}

impl<T> Shelf<Arc<T>> {
    /// The same as `get` for one that will be replaced in a moment.
    pub fn get_to_change(&self, index: usize) -> Option<&Arc<T>> {
        let values = self.leaf(index)?;
        fetch(values.iter().flatten().map(Arc::strong_count));
        values.get(place(index, 0))?.as_ref()
    }

    /// Puts a value at the end, and tells where that is.
    pub fn push(&mut self, value: Arc<T>) -> usize {
        let index = self.len;
        if index > 0 && index >> (BITS * self.height) == WIDTH {
            let mut children = [const { Node::Empty }; WIDTH];
            children[0] = std::mem::replace(&mut self.root, Node::Empty);
            self.root = Node::Branch(Arc::new(children));
            self.height += 1;
        }
        self.len += 1;
        self.root.set(self.height, index, value);
        index
    }

    /// Replaces a value that is there.
    pub fn set(&mut self, index: usize, value: Arc<T>) {
        if index < self.len {
            self.root.set(self.height, index, value);
        }
    }
}

impl<T> Node<Arc<T>> {
    fn set(&mut self, height: u32, index: usize, value: Arc<T>) {
        if matches!(self, Self::Empty) {
            *self = match height {
                0 => Self::Leaf(Arc::new([const { None }; WIDTH])),
                _ => Self::Branch(Arc::new([const { Self::Empty }; WIDTH])),
            };
        }
        match self {
            Self::Branch(children) => {
                fetch(children.iter().map(Self::owners));
                if let Some(child) = Arc::make_mut(children).get_mut(place(index, height)) {
                    child.set(height - 1, index, value);
                }
            }
            Self::Leaf(values) => {
                fetch(values.iter().flatten().map(Arc::strong_count));
                if let Some(slot) = Arc::make_mut(values).get_mut(place(index, 0)) {
                    *slot = Some(value);
                }
            }
            Self::Empty => {}
        }
    }

    fn owners(&self) -> usize {
        match self {
            Self::Branch(children) => Arc::strong_count(children),
            Self::Leaf(values) => Arc::strong_count(values),
            Self::Empty => 0,
        }
    }
}

impl<T> Shelf<Arc<T>> {
    /// Tells each value that is another one than in `old`, with the one that stood there.
    pub fn changes_since<'s>(&'s self, old: &'s Self, mut tell: impl FnMut(Option<&'s Arc<T>>, &'s Arc<T>)) {
        // an older one may be lower: then all of it stands in the first place of the lowest branch that it lacks
        let (mut node, mut beside) = (&self.root, Vec::new());
        for _ in old.height..self.height {
            if let Node::Branch(children) = node {
                let [first, others @ ..] = &**children;
                beside.push(others);
                node = first;
            }
        }
        node.changes_since(&old.root, &mut tell);
        for node in beside.into_iter().rev().flatten() {
            node.changes_since(&Node::Empty, &mut tell);
        }
    }
}

impl<T> Node<Arc<T>> {
    fn changes_since<'s>(&'s self, old: &'s Self, tell: &mut impl FnMut(Option<&'s Arc<T>>, &'s Arc<T>)) {
        match (self, old) {
            (Self::Branch(new), Self::Branch(old)) if Arc::ptr_eq(new, old) => {}
            (Self::Leaf(new), Self::Leaf(old)) if Arc::ptr_eq(new, old) => {}
            (Self::Branch(new), Self::Branch(old)) => {
                for (new, old) in new.iter().zip(&**old) {
                    new.changes_since(old, tell);
                }
            }
            (Self::Branch(new), _) => new.iter().for_each(|new| new.changes_since(&Self::Empty, tell)),
            (Self::Leaf(new), old) => {
                let old = if let Self::Leaf(old) = old { Some(old) } else { None };
                for (place, new) in new.iter().enumerate() {
                    let old = old.and_then(|old| old.get(place)?.as_ref());
                    match new {
                        Some(new) if !old.is_some_and(|old| Arc::ptr_eq(new, old)) => tell(old, new),
                        _ => {}
                    }
                }
            }
            (Self::Empty, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Set(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![Just(Step::Push), any::<usize>().prop_map(Step::Set)];
        proptest::collection::vec(step, 0..400)
    }

    fn walk(shelf: &mut Shelf<Arc<usize>>, model: &mut Vec<usize>, steps: &[Step]) {
        for (value, step) in steps.iter().enumerate() {
            match step {
                Step::Push => {
                    assert_eq!(shelf.push(Arc::new(value)), model.len());
                    model.push(value);
                }
                Step::Set(index) if !model.is_empty() => {
                    let index = index % model.len();
                    shelf.set(index, Arc::new(value));
                    model[index] = value;
                }
                Step::Set(index) => shelf.set(*index, Arc::new(value)),
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_list_whose_copies_stay_as_they_were(before in steps(), after in steps()) {
            let (mut shelf, mut model) = (Shelf::default(), Vec::new());
            walk(&mut shelf, &mut model, &before);
            let (old, old_model) = (shelf.clone(), model.clone());
            walk(&mut shelf, &mut model, &after);
            for (shelf, model) in [(&old, &old_model), (&shelf, &model)] {
                prop_assert_eq!(shelf.iter().map(|value| **value).collect::<Vec<_>>(), model.clone());
                prop_assert!(shelf.get(model.len()).is_none());
            }
            let mut told = Vec::new();
            shelf.changes_since(&old, |old, new| told.push((old.cloned(), new.clone())));
            let is_other = |index: &usize| !old.get(*index).is_some_and(|old| Arc::ptr_eq(old, shelf.get(*index).unwrap()));
            let expected: Vec<_> = (0..model.len())
                .filter(is_other)
                .map(|index| (old.get(index).cloned(), shelf.get(index).unwrap().clone()))
                .collect();
            prop_assert_eq!(told, expected);
        }
    }
}
