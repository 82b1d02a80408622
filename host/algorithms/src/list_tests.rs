// SPDX-License-Identifier: GPL-2.0

//! Lists of objects, also with objects that are queued twice: detectable cases are rejected, cyclic
//! lists are detected in bounded time.

use crate::{
    entry::Call,
    list::{LinkChain, LinkList, Linked, ListEnd, ObjectList, Pushed, RESCHED_EVERY},
};
use std::ptr::NonNull;

/// An object with room for a head, and for a field at several offsets.
pub(crate) fn object() -> NonNull<u8> {
    NonNull::from(Box::leak(Box::new([0u64; 4]))).cast()
}

fn objects(n: usize) -> Vec<NonNull<u8>> {
    (0..n).map(|_| object()).collect()
}

/// Describes `object`, with its field in the first word.
pub(crate) fn linked(object: NonNull<u8>) -> Linked {
    Linked::Object {
        object,
        field: object,
    }
}

fn push(list: &mut ObjectList, object: NonNull<u8>) -> bool {
    // SAFETY: The field is the first word.
    unsafe { list.push(linked(object)) }
}

fn list_of(objects: &[NonNull<u8>]) -> ObjectList {
    let mut list = ObjectList::new();
    assert!(objects.iter().all(|&object| push(&mut list, object)));
    list
}

fn is_sound(list: &ObjectList) -> bool {
    let mut pauses = 0;
    let sound = list.is_sound(|| pauses += 1);
    assert!(
        pauses <= list.len().div_ceil(RESCHED_EVERY),
        "the check has no bound"
    );
    assert!(!sound || pauses == list.len().div_ceil(RESCHED_EVERY));
    sound
}

#[test]
fn pushed_twice_in_a_row() {
    for n in 1..4 {
        let all = objects(n);
        let mut list = list_of(&all);
        assert!(!push(&mut list, all[n - 1]));
        assert!(list.len() == n && is_sound(&list));
        let freed: Vec<_> = std::iter::from_fn(|| Some(list.pop()?.start())).collect();
        assert!(freed.iter().eq(all.iter().rev()));
        assert!(list.is_empty() && list.len() == 0);
    }
}

#[test]
fn deferred_twice_in_a_row() {
    let list = LinkList::new();
    let (a, b) = (object(), object());
    // SAFETY: The field is the first word.
    let push = |object| unsafe { list.push(linked(object)) };
    assert!(list.is_empty());
    assert_eq!(push(a), Pushed::First);
    assert_eq!(push(a), Pushed::Twice);
    assert!(!list.is_empty());
    assert_eq!(push(b), Pushed::Another);
    assert_eq!(push(b), Pushed::Twice);
    assert_eq!(list.take().check(10, || ()), ListEnd::At(2));
    assert!(list.is_empty());
}

/// The words for watchpoints change with each object.
#[test]
fn words_lead_to_the_newest() {
    let mut list = ObjectList::new();
    let deferred = LinkList::new();
    for object in objects(2) {
        assert!(push(&mut list, object));
        // SAFETY: The field is the second word.
        unsafe {
            let field = object.add(8);
            deferred.push(Linked::Object { object, field });
        }
        let word = std::ptr::from_ref(&list).with_addr(list.head_address());
        // SAFETY: In the list, and not changed meanwhile.
        assert_eq!(unsafe { word.cast::<usize>().read() }, object.addr().get());
        let word = std::ptr::from_ref(&deferred).with_addr(deferred.head_address());
        // SAFETY: As above.
        let newest = unsafe { word.cast::<usize>().read() };
        assert_eq!(newest, object.addr().get() + 8);
    }
}

/// Every cycle of up to 40 objects is found, behind up to 40 others.
#[test]
fn cycles_are_found() {
    for tail in 0..40 {
        for cycle in 2..40 {
            let all = objects(tail + cycle);
            // The oldest object is pushed again and closes the cycle; later objects lead to it.
            let mut list = list_of(&all[..cycle]);
            assert!(push(&mut list, all[0]));
            assert!(all[cycle..].iter().all(|&object| push(&mut list, object)));
            assert!(!is_sound(&list));
            let chain = chain_of(all[..cycle].iter().chain([&all[0]]).chain(&all[cycle..]));
            let mut steps = 0;
            let end = chain.check(usize::MAX, || steps += 1);
            assert!(matches!(end, ListEnd::Cyclic(n) if n == steps));
            assert!(steps <= 3 * (tail + cycle), "{steps} steps");
        }
    }
}

/// A deferred list, whose length is not known.
fn chain_of<'a>(objects: impl IntoIterator<Item = &'a NonNull<u8>>) -> LinkChain {
    let list = LinkList::new();
    for &object in objects {
        // SAFETY: The field is the first word.
        unsafe { list.push(linked(object)) };
    }
    list.take()
}

/// An object that is pushed to another list shares the end of that list.
#[test]
fn shared_ends_are_found() {
    let all = objects(5);
    let list = list_of(&all);
    let mut other = ObjectList::new();
    assert!(push(&mut other, all[2]));
    assert!(is_sound(&other));
    assert!(!is_sound(&list));
    let more = objects(4);
    let mut longer = list_of(&more);
    assert!(push(&mut longer, all[3]));
    assert!(is_sound(&longer));
    assert!(!is_sound(&list));
}

#[test]
fn ends_are_found() {
    for n in 0..70 {
        let all = objects(n);
        assert!(is_sound(&list_of(&all)));
        let chain = chain_of(&all);
        for limit in 0..80 {
            let mut steps = 0;
            let end = chain.check(limit, || steps += 1);
            assert!(steps <= limit);
            assert_eq!(
                end,
                if n <= limit {
                    ListEnd::At(n)
                } else {
                    ListEnd::NotWithinLimit
                }
            );
        }
    }
}

/// Objects and callbacks in one list keep their kinds.
#[test]
fn callbacks_among_objects() {
    let list = LinkList::new();
    let mut pushed = Vec::new();
    for (i, start) in objects(64).into_iter().enumerate() {
        let call = Call::new(start.as_ptr(), i & 2 != 0);
        // SAFETY: Room for a head, or for a field in the third word.
        let entry = match i % 5 {
            0 | 3 => Linked::Call(call),
            1 => Linked::Call(call.tracked()),
            2 => linked(start),
            _ => Linked::Object {
                object: start,
                field: unsafe { start.add(16) },
            },
        };
        // SAFETY: As above.
        unsafe { list.push(entry) };
        pushed.push(entry);
    }
    let mut chain = list.take();
    assert_eq!(chain.check(usize::MAX, || ()), ListEnd::At(64));
    let popped: Vec<_> = std::iter::from_fn(|| chain.pop()).collect();
    assert!(popped.iter().eq(pushed.iter().rev()));
}
