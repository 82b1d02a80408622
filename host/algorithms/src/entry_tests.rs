// SPDX-License-Identifier: GPL-2.0

//! The words of objects and callbacks, and lists of callbacks that are ready: in order, each once,
//! and finite when a head is queued again.

use crate::entry::{split_calls, Call, ReadyCalls, FUNC};
use proptest::prelude::*;
use std::ptr::NonNull;

fn heads(n: usize) -> Vec<NonNull<u8>> {
    (0..n)
        .map(|_| NonNull::from(Box::leak(Box::new([0, FUNC | 8]))).cast())
        .collect()
}

fn push(list: &mut ReadyCalls, head: NonNull<u8>) -> bool {
    // SAFETY: Two words of this test.
    unsafe { list.push_front(Call::new(head.as_ptr(), false)) }
}

fn ready(heads: &[NonNull<u8>]) -> ReadyCalls {
    let mut ready = ReadyCalls::new();
    assert!(heads.iter().rev().all(|&head| push(&mut ready, head)));
    ready
}

/// Writes the function of a head, as before it is queued.
fn set_func(head: NonNull<u8>) {
    // SAFETY: Two words of the test's.
    unsafe { head.cast::<usize>().add(1).write(FUNC | 8) };
}

fn all(ready: &mut ReadyCalls) -> Vec<NonNull<u8>> {
    std::iter::from_fn(|| ready.pop()).collect()
}

#[test]
fn words_keep_what_they_are() {
    for head in heads(8) {
        for sleeps in [false, true] {
            let call = Call::new(head.as_ptr(), sleeps);
            for call in [call, call.tracked()] {
                let again = Call::from_entry(call.entry()).expect("a callback");
                assert!(again == call && again.head() == head && again.sleeps() == sleeps);
                let linked = Call::with_tags(head.as_ptr().expose_provenance(), call.tags());
                assert_eq!(linked, call);
            }
            assert!(call.tracked().is_tracked() && !call.is_tracked());
            assert_eq!(call.tracked().tracked(), call.tracked());
        }
        assert_eq!(Call::from_entry(head.as_ptr().addr()), None);
    }
}

#[test]
fn appended_in_order() {
    for parts in [&[0, 3, 1][..], &[1, 1, 1], &[2, 0, 0, 5], &[0]] {
        let mut sum = ReadyCalls::new();
        let mut expected = Vec::new();
        for &n in parts {
            let heads = heads(n);
            sum.append(ready(&heads));
            expected.extend(heads);
            assert_eq!(sum.len(), expected.len());
        }
        assert_eq!(all(&mut sum), expected);
        assert!(sum.is_empty());
    }
}

/// A head may be reused, and its object freed, as soon as it has been removed.
#[test]
fn heads_are_let_go() {
    let heads = heads(5);
    let mut list = ready(&heads);
    let mut taken = Vec::new();
    while let Some(head) = list.pop() {
        // SAFETY: Two words of the test's.
        unsafe { head.cast::<[usize; 2]>().write([usize::MAX; 2]) };
        taken.push(head);
    }
    assert_eq!(taken, heads);
}

/// The number of heads in a list, and the one that is queued again.
const AGAIN: [(usize, usize); 5] = [(1, 0), (4, 0), (4, 2), (4, 3), (7, 3)];

/// A head that is in a list is not added to that or another list; it may be queued again when it
/// has been removed.
#[test]
fn a_head_is_in_one_list() {
    for (n, again) in AGAIN {
        let heads = heads(n);
        let (mut list, mut other) = (ready(&heads), ReadyCalls::new());
        assert!(!push(&mut list, heads[again]) && !push(&mut other, heads[again]));
        list.append(other);
        assert_eq!(all(&mut list), heads);
        set_func(heads[again]);
        assert!(push(&mut list, heads[again]));
        assert_eq!(all(&mut list), [heads[again]]);
    }
}

/// A head whose function is written again while it is in a list, by a second call, can be linked
/// twice: no more heads come out than were pushed, and the length shows the loss.
#[test]
fn broken_lists_end() {
    for (n, again) in AGAIN {
        let heads = heads(n);
        let mut list = ready(&heads);
        set_func(heads[again]);
        assert!(push(&mut list, heads[again]));
        let taken = all(&mut list);
        assert!(taken.len() + list.len() == n + 1);
    }
}

proptest! {
    #[test]
    fn callbacks_are_split_off(kinds in proptest::collection::vec(0u8..3, 0..600)) {
        let words: Vec<usize> = kinds
            .iter()
            .enumerate()
            .map(|(i, &kind)| {
                let address: *mut u8 = std::ptr::without_provenance_mut((i + 1) * 8);
                match kind {
                    0 => address.addr(),
                    kind => Call::new(address, kind == 2).entry(),
                }
            })
            .collect();
        let mut slots: Vec<*mut u8> =
            words.iter().map(|&word| std::ptr::without_provenance_mut(word)).collect();
        let mut calls = Vec::new();
        let objects = split_calls(&mut slots, |call| calls.push(call.entry()));
        let mut objects: Vec<usize> = objects.iter().map(|p| p.addr()).collect();
        objects.sort_unstable();
        let is_call = |word: &usize| Call::from_entry(*word).is_some();
        prop_assert!(calls.iter().eq(words.iter().filter(|w| is_call(w))));
        prop_assert!(objects.iter().eq(words.iter().filter(|w| !is_call(w))));
    }
}
