//! The rules of one lock, each claim a test. The numbers are those of `docs/semantics.md`.

use std::sync::Arc;

use super::{Answer, Enqueued, Held, Lock, Mode, Ordering, Stripe, Trial, Tried, Who};

use Answer::{Blocked, Deleted, Done, Granted, TooLate, Waits, Withdrawn, WouldDeadlock};
use Mode::{Exclusive, IntentExclusive, IntentShared, Shared, SharedIntentExclusive};

/// Where owners of no interest are counted.
const AT: Stripe = Stripe::of(0);

/// A lock held by the first, for which the others wait, all at priority 0.
fn held_by(holder: (Who, Mode), waiters: &[(Who, Mode)]) -> Trial {
    let mut lock = Trial::new();
    assert_eq!(lock.request(holder.0, holder.1, 0), Granted);
    for (who, mode) in waiters {
        assert_eq!(lock.request(*who, *mode, 0), Waits);
    }
    lock
}

mod rule_1_modes {
    use super::*;

    #[test]
    fn two_owners_share_the_lock_exactly_if_grays_table_says_so() {
        let shared = |a, b| held_by(('a', a), &[]).try_take('b', b, 0) == Granted;
        for a in Mode::ALL {
            let row: String =
                Mode::ALL.iter().map(|b| if shared(a, *b) { '+' } else { '-' }).collect();
            let expected = match a {
                IntentShared => "++++-",
                IntentExclusive => "++---",
                Shared => "+-+--",
                SharedIntentExclusive => "+----",
                Exclusive => "-----",
            };
            assert_eq!(row, expected, "{a}");
        }
    }

    #[test]
    fn an_upgrade_is_granted_exactly_if_the_other_holders_admit_it() {
        for other in Mode::ALL.into_iter().filter(|mode| mode.admits(IntentShared)) {
            for to in Mode::ALL.into_iter().filter(|mode| *mode != IntentShared) {
                let mut lock = held_by(('a', IntentShared), &[]);
                assert_eq!(lock.request('b', other, 0), Granted);
                let expected = if to.admits(other) { Granted } else { Waits };
                assert_eq!(lock.upgrade('a', to), expected, "{to} beside {other}");
            }
        }
    }
}

mod rule_2_nobody_overtakes {
    use super::*;

    #[test]
    fn a_reader_waits_behind_a_writer_that_waits() {
        let mut lock = held_by(('r', Shared), &[('w', Exclusive)]);
        assert_eq!(lock.request('s', Shared, 0), Waits);
    }

    #[test]
    fn a_try_does_not_pass_who_is_as_urgent() {
        let mut lock = held_by(('r', Shared), &[('w', Exclusive)]);
        assert_eq!(lock.try_take('s', Shared, 0), Blocked);
    }

    #[test]
    fn who_is_more_urgent_than_everything_pending_goes_at_once() {
        let mut lock = held_by(('r', Shared), &[('w', Exclusive)]);
        assert_eq!(lock.request('s', Shared, -1), Granted);
        assert_eq!(lock.try_take('t', Shared, -1), Granted);
    }

    #[test]
    fn who_is_more_urgent_but_not_compatible_waits_in_front() {
        let mut lock = held_by(('r', Shared), &[('w', Exclusive)]);
        assert_eq!(lock.try_take('x', Exclusive, -1), Blocked);
        assert_eq!(lock.request('x', Exclusive, -1), Waits);
        assert_eq!(lock.release('r').granted(), "x");
    }

    #[test]
    fn nobody_is_urgent_enough_to_pass_an_upgrade() {
        let mut lock = held_by(('r', Shared), &[]);
        lock.request('s', Shared, 0);
        lock.upgrade('r', Exclusive);
        assert_eq!(lock.try_take('t', Shared, i32::MIN), Blocked);
        assert_eq!(lock.request('t', Shared, i32::MIN), Waits);
    }
}

mod rule_3_order {
    use super::*;

    #[test]
    fn writers_go_by_priority_then_by_arrival() {
        let mut lock = held_by(('a', Exclusive), &[]);
        for (who, priority) in
            [('b', 0), ('c', 5), ('d', -5), ('e', 0), ('f', i32::MAX), ('g', i32::MIN)]
        {
            lock.request(who, Exclusive, priority);
        }
        let mut order = String::from("a");
        while let Some(holder) = order.chars().last().filter(|_| order.len() < 7) {
            order += &lock.release(holder).granted();
        }
        assert_eq!(order, "agdbecf");
    }

    #[test]
    fn a_reader_joins_the_readers_of_its_priority_past_a_writer() {
        let mut lock = held_by(('a', Exclusive), &[('r', Shared), ('w', Exclusive), ('s', Shared)]);
        assert_eq!(lock.release('a').granted(), "rs");
    }

    #[test]
    fn a_reader_does_not_join_readers_of_another_priority() {
        let mut lock = held_by(('a', Exclusive), &[('r', Shared), ('w', Exclusive)]);
        lock.request('s', Shared, 1);
        assert_eq!(lock.release('a').granted(), "r");
    }

    #[test]
    fn requests_in_different_modes_are_not_of_one_group_although_compatible() {
        let waiters = [('r', Shared), ('w', Exclusive), ('i', IntentShared)];
        assert_eq!(held_by(('a', Exclusive), &waiters).release('a').granted(), "r");
    }

    #[test]
    fn a_mode_that_does_not_admit_itself_has_no_groups() {
        let waiters = [('b', SharedIntentExclusive), ('c', SharedIntentExclusive)];
        assert_eq!(held_by(('a', Exclusive), &waiters).release('a').granted(), "b");
    }

    #[test]
    fn nobody_joins_a_group_that_was_granted() {
        let mut lock = held_by(('a', Exclusive), &[('r', Shared), ('w', Exclusive)]);
        assert_eq!(lock.release('a').granted(), "r");
        assert_eq!(lock.request('s', Shared, 0), Waits);
        assert_eq!(lock.release('r').granted(), "w");
    }

    #[test]
    fn a_group_keeps_its_place_when_its_first_member_leaves() {
        let waiters = [('r', Shared), ('w', Exclusive), ('s', Shared)];
        let mut lock = held_by(('a', Exclusive), &waiters);
        lock.cancel('r');
        assert_eq!(lock.release('a').granted(), "s");
    }
}

mod rule_4_every_transition_grants {
    use super::*;

    /// Ganeti's trap T1: the readers slept on until the holder left.
    #[test]
    fn a_timed_out_writer_lets_the_readers_behind_it_go() {
        let mut lock = held_by(('a', Shared), &[('w', Exclusive), ('r', Shared), ('s', Shared)]);
        let effect = lock.cancel('w');
        assert_eq!((effect.answer, &*effect.granted()), (Withdrawn, "rs"));
    }

    /// Ganeti's trap T2: after the writer had gone, the readers went one at a time for good.
    #[test]
    fn eight_readers_and_a_writer_that_leaves_end_with_eight_readers_at_a_time() {
        let readers = || 'a'..='h';
        let mut lock = held_by(('w', Exclusive), &[]);
        readers().for_each(|reader| assert_eq!(lock.request(reader, Shared, 0), Waits));
        for _ in 0..3 {
            assert_eq!(lock.release('w').granted(), "abcdefgh");
            assert_eq!(lock.request('w', Exclusive, 0), Waits);
            // Each comes back while others still read, and the last one out lets the writer in.
            let granted: String = readers().map(|reader| come_again(&mut lock, reader)).collect();
            assert_eq!(granted, "w");
        }
        assert_eq!(lock.release('w').granted(), "abcdefgh");
        let granted: String = readers().map(|reader| come_again(&mut lock, reader)).collect();
        assert_eq!((&*granted, lock.lock.held().count(Shared)), ("", 8));
    }

    /// Leaves and asks again; tells whom that lets go.
    fn come_again(lock: &mut Trial, reader: Who) -> String {
        let granted = lock.release(reader).granted();
        lock.request(reader, Shared, 0);
        granted
    }

    #[test]
    fn neighbouring_groups_of_different_priorities_go_together() {
        let mut lock = held_by(('a', Exclusive), &[]);
        for (who, priority) in [('r', 0), ('s', 1), ('t', 2)] {
            lock.request(who, Shared, priority);
        }
        lock.request('w', Exclusive, 3);
        lock.request('u', Shared, 4);
        assert_eq!(lock.release('a').granted(), "rst");
    }

    #[test]
    fn nobody_behind_a_front_that_has_to_wait_goes() {
        let mut lock = held_by(('a', Shared), &[('w', Exclusive), ('i', IntentShared)]);
        assert_eq!(lock.request('b', Exclusive, 1), Waits);
        assert_eq!(lock.cancel('b').granted(), "");
    }

    #[test]
    fn the_last_holder_to_leave_lets_the_writer_go_and_no_other() {
        let mut lock = held_by(('a', Shared), &[]);
        lock.request('b', Shared, 0);
        lock.request('w', Exclusive, 0);
        assert_eq!(lock.release('a').granted(), "");
        assert_eq!(lock.release('b').granted(), "w");
    }

    #[test]
    fn a_withdrawn_upgrade_lets_go_whom_it_kept_waiting() {
        let mut lock = held_by(('a', Shared), &[]);
        lock.request('b', Shared, 0);
        lock.upgrade('a', Exclusive);
        assert_eq!(lock.request('r', Shared, 0), Waits);
        assert_eq!(lock.cancel('a').granted(), "r");
    }
}

mod rule_5_hand_off {
    use super::*;

    #[test]
    fn between_a_release_and_the_waking_of_the_waiter_the_lock_is_not_free() {
        let mut lock = held_by(('a', Exclusive), &[('b', Exclusive)]);
        assert_eq!(lock.release('a').granted(), "b");
        assert_eq!(lock.try_take('c', Shared, i32::MIN), Blocked);
    }

    #[test]
    fn who_withdraws_too_late_owns_the_lock() {
        let mut lock = held_by(('a', Exclusive), &[('b', Exclusive), ('c', Exclusive)]);
        lock.release('a');
        assert_eq!(lock.cancel('b').answer, Granted);
        assert_eq!(lock.release('b').granted(), "c");
    }

    /// A queue that had been empty once gave the same tickets again.
    #[test]
    fn a_withdrawal_that_comes_too_late_does_not_hit_who_waits_by_then() {
        let mut lock = held_by(('a', Exclusive), &[('b', Exclusive)]);
        lock.release('a');
        assert_eq!(lock.request('c', Exclusive, 0), Waits);
        assert_eq!(lock.cancel('b').answer, Granted);
        assert_eq!(lock.release('b').granted(), "c");
    }
}

mod rule_6_downgrade {
    use super::*;

    #[test]
    fn readers_of_the_front_priority_go_with_a_downgrading_writer_past_writers_that_came_first() {
        let mut lock = held_by(('a', Exclusive), &[('w', Exclusive), ('r', Shared), ('s', Shared)]);
        assert_eq!(lock.downgrade('a', Shared).granted(), "rs");
        assert_eq!(lock.request('t', Shared, 0), Waits);
    }

    #[test]
    fn readers_of_another_priority_do_not_go_past_a_writer() {
        let mut lock = held_by(('a', Exclusive), &[('w', Exclusive)]);
        lock.request('r', Shared, 1);
        assert_eq!(lock.downgrade('a', Shared).granted(), "");
    }

    #[test]
    fn a_downgrade_to_another_mode_takes_nobody_past_a_writer() {
        for to in [SharedIntentExclusive, IntentExclusive, IntentShared] {
            let waiters = [('w', Exclusive), ('i', IntentShared), ('r', Shared)];
            let mut lock = held_by(('a', Exclusive), &waiters);
            assert_eq!(lock.downgrade('a', to).granted(), "", "{to}");
        }
    }

    #[test]
    fn a_second_downgrade_takes_nobody_along() {
        let mut lock = held_by(('a', Exclusive), &[('w', Exclusive)]);
        lock.downgrade('a', Shared);
        assert_eq!(lock.request('r', Shared, 0), Waits);
        assert_eq!(lock.downgrade('a', IntentShared).granted(), "");
    }

    #[test]
    fn a_downgrade_lets_a_compatible_front_go() {
        let waiters = [('i', IntentShared), ('j', IntentExclusive), ('r', Shared)];
        let mut lock = held_by(('a', Exclusive), &waiters);
        assert_eq!(lock.downgrade('a', IntentExclusive).granted(), "ij");
    }
}

mod rule_7_conversions {
    use super::*;

    /// Two readers, and a writer that waits before the first of them wants to write.
    fn two_readers_and_a_writer() -> Trial {
        let mut lock = held_by(('a', Shared), &[]);
        lock.request('b', Shared, 0);
        lock.request('w', Exclusive, -5);
        lock
    }

    #[test]
    fn an_upgrade_goes_before_everything_pending() {
        let mut lock = two_readers_and_a_writer();
        assert_eq!(lock.upgrade('a', Exclusive), Waits);
        assert_eq!(lock.release('b').granted(), "a");
        assert_eq!(lock.release('a').granted(), "w");
    }

    #[test]
    fn the_only_holder_upgrades_at_once_whoever_waits() {
        let mut lock = held_by(('a', Shared), &[('w', Exclusive)]);
        assert_eq!(lock.upgrade('a', Exclusive), Granted);
    }

    #[test]
    fn an_upgrade_that_would_deadlock_with_another_is_refused_at_once() {
        let mut lock = two_readers_and_a_writer();
        lock.upgrade('a', Exclusive);
        assert_eq!(lock.upgrade('b', Exclusive), WouldDeadlock);
        assert_eq!(lock.upgrade('b', SharedIntentExclusive), WouldDeadlock);
        assert_eq!(lock.release('b').granted(), "a");
    }

    #[test]
    fn who_was_refused_an_upgrade_holds_on_as_before() {
        let mut lock = two_readers_and_a_writer();
        lock.upgrade('a', Exclusive);
        lock.upgrade('b', Exclusive);
        lock.cancel('a');
        assert_eq!(lock.lock.held().count(Shared), 2);
        assert_eq!(lock.upgrade('b', Exclusive), Waits);
    }

    #[test]
    fn an_upgrade_does_not_wait_for_another_that_is_before_it() {
        let mut lock = held_by(('a', IntentShared), &[]);
        lock.request('b', IntentShared, 0);
        assert_eq!(lock.upgrade('a', Exclusive), Waits);
        assert_eq!(lock.upgrade('b', IntentExclusive), Granted);
    }

    #[test]
    fn an_upgrade_may_wait_for_another_that_does_not_wait_for_it() {
        let mut lock = held_by(('a', IntentShared), &[]);
        for (who, mode) in [('b', IntentShared), ('c', Shared)] {
            assert_eq!(lock.request(who, mode, 0), Granted);
        }
        assert_eq!(lock.upgrade('a', IntentExclusive), Waits);
        assert_eq!(lock.upgrade('b', Exclusive), Waits);
        assert_eq!(lock.release('c').granted(), "a");
        assert_eq!(lock.release('a').granted(), "b");
    }

    #[test]
    fn of_two_pending_upgrades_the_one_that_can_go_goes() {
        let mut lock = held_by(('a', IntentShared), &[]);
        for (who, mode) in [('b', IntentShared), ('c', IntentExclusive)] {
            assert_eq!(lock.request(who, mode, 0), Granted);
        }
        assert_eq!(lock.upgrade('a', Exclusive), Waits);
        assert_eq!(lock.upgrade('b', Shared), Waits);
        assert_eq!(lock.release('c').granted(), "b");
        assert_eq!(lock.release('b').granted(), "a");
    }

    #[test]
    fn while_an_upgrade_waits_nobody_else_is_granted() {
        let mut lock = held_by(('a', Shared), &[]);
        for (who, mode) in [('b', Shared), ('c', Shared)] {
            assert_eq!(lock.request(who, mode, 0), Granted);
        }
        lock.upgrade('a', Exclusive);
        assert_eq!(lock.request('r', Shared, 0), Waits);
        assert_eq!(lock.release('b').granted(), "");
    }
}

mod rule_9_deletion {
    use super::*;

    #[test]
    fn everybody_who_waits_for_a_deleted_lock_is_told_in_queue_order() {
        let mut lock =
            held_by(('a', Exclusive), &[('b', Exclusive), ('c', Shared), ('d', Exclusive)]);
        lock.request('e', Exclusive, -1);
        lock.request('f', Shared, 0);
        assert_eq!(lock.delete('a').failed(), "ebcfd");
    }

    #[test]
    fn every_later_request_finds_the_lock_deleted() {
        let mut lock = held_by(('a', Exclusive), &[('b', Exclusive)]);
        lock.delete('a');
        assert_eq!(lock.request('c', IntentShared, i32::MIN), Deleted);
        assert_eq!(lock.try_take('d', Exclusive, 0), Deleted);
        assert_eq!(lock.cancel('b').answer, Deleted);
    }

    #[test]
    fn who_was_granted_before_the_deletion_had_its_turn() {
        let mut lock = held_by(('a', Shared), &[('d', Exclusive), ('r', Shared)]);
        lock.request('u', Exclusive, -1);
        assert_eq!(lock.release('a').granted(), "u");
        assert_eq!(lock.release('u').granted(), "d");
        assert_eq!(lock.delete('d').failed(), "r");
    }
}

mod rule_11_priorities_change {
    use super::*;

    #[test]
    fn who_becomes_more_urgent_goes_first() {
        let mut lock = held_by(('a', Exclusive), &[('b', Exclusive), ('c', Exclusive)]);
        lock.set_priority('c', -1);
        assert_eq!(lock.release('a').granted(), "c");
    }

    #[test]
    fn who_becomes_less_urgent_lets_those_behind_it_go() {
        let mut lock = held_by(('a', Shared), &[('w', Exclusive), ('r', Shared)]);
        assert_eq!(lock.set_priority('w', 1).granted(), "r");
    }

    #[test]
    fn who_becomes_the_most_urgent_goes_at_once_if_it_can() {
        let mut lock = held_by(('a', Shared), &[('w', Exclusive), ('r', Shared)]);
        assert_eq!(lock.set_priority('r', -1).granted(), "r");
    }

    #[test]
    fn among_its_new_equals_a_request_stands_where_its_arrival_puts_it() {
        let mut lock = held_by(('a', Exclusive), &[('b', Exclusive)]);
        lock.request('c', Exclusive, 1);
        lock.request('d', Exclusive, 0);
        lock.set_priority('c', 0);
        let order = ['a', 'b', 'c'].map(|who| lock.release(who).granted());
        assert_eq!(order, ["b", "c", "d"]);
    }

    /// It took the place of the readers that it joined, which had come after the writer.
    #[test]
    fn a_reader_that_joins_later_ones_brings_them_its_earlier_place() {
        let mut lock = held_by(('a', Exclusive), &[]);
        lock.request('r', Shared, 1);
        lock.request('w', Exclusive, 0);
        lock.request('s', Shared, 0);
        lock.set_priority('r', 0);
        assert_eq!(lock.release('a').granted(), "rs");
    }

    #[test]
    fn the_same_priority_again_changes_nothing() {
        let waiters = [('r', Shared), ('w', Exclusive), ('s', Shared)];
        let mut lock = held_by(('a', Exclusive), &waiters);
        assert_eq!(lock.set_priority('s', 0).answer, Done);
        assert_eq!(lock.release('a').granted(), "rs");
    }

    #[test]
    fn a_more_urgent_upgrade_goes_before_another() {
        let mut lock = held_by(('a', IntentShared), &[]);
        for (who, mode) in [('b', IntentShared), ('c', Shared), ('d', Shared)] {
            assert_eq!(lock.request(who, mode, 0), Granted);
        }
        lock.upgrade('a', IntentExclusive);
        lock.upgrade('b', IntentExclusive);
        lock.set_priority('b', -1);
        lock.release('c');
        assert_eq!(lock.release('d').granted(), "ba");
    }

    #[test]
    fn the_priority_of_who_is_granted_changes_too_late() {
        let mut lock = held_by(('a', Exclusive), &[('b', Exclusive)]);
        lock.release('a');
        assert_eq!(lock.set_priority('b', -1).answer, TooLate);
    }
}

mod rule_13_abandonment {
    use super::*;

    fn abandoned_by(name: &str) -> Lock<Who> {
        let lock = Trial::new().lock;
        assert_eq!(lock.try_take(Exclusive, 0), Tried::Taken);
        lock.abandon(&Arc::from(name));
        lock.release(Exclusive, AT, &mut Vec::new());
        lock
    }

    #[test]
    fn who_ended_without_releasing_is_named_once() {
        let lock = abandoned_by("job-1");
        assert!(lock.is_abandoned());
        assert_eq!(lock.take_abandoned().as_deref(), Some("job-1"));
        assert_eq!(lock.take_abandoned(), None);
    }

    #[test]
    fn an_abandoned_lock_can_be_had_without_waiting() {
        assert_eq!(abandoned_by("job-1").try_take(Exclusive, 0), Tried::Taken);
    }

    #[test]
    fn an_emptied_queue_does_not_forget_who_abandoned_the_lock() {
        let (lock, mut decided) = (abandoned_by("job-1"), Vec::new());
        assert_eq!(lock.enqueue(Shared, 0, 'r', &mut decided), Enqueued::Granted);
        lock.release(Shared, AT, &mut decided);
        assert_eq!(lock.take_abandoned().as_deref(), Some("job-1"));
    }
}

mod a_full_lock {
    use super::*;

    const MAX: u64 = Held::SHARERS_MAX;

    /// A lock with so many holders.
    fn held_by_many(holders: &[(Mode, u64)]) -> Lock<Who> {
        let held = holders.iter().fold(Held::FREE, |held, (mode, count)| held.with(*mode, *count));
        let lock = Trial::new().lock;
        lock.word.store(held.bits(), Ordering::Relaxed);
        lock
    }

    fn released(lock: &Lock<Who>, mode: Mode) -> String {
        let mut decided = Vec::new();
        lock.release(mode, AT, &mut decided);
        decided.into_iter().map(|d| d.waiter).collect()
    }

    fn assert_waits(lock: &Lock<Who>, who: Who, mode: Mode) {
        let enqueued = lock.enqueue(mode, 0, who, &mut Vec::new());
        assert!(matches!(enqueued, Enqueued::Pending(_)), "{who}: {enqueued:?}");
    }

    #[test]
    fn one_owner_too_many_waits_for_a_place() {
        for mode in [IntentShared, IntentExclusive, Shared] {
            let lock = held_by_many(&[(mode, MAX)]);
            assert_eq!(lock.try_take(mode, 0), Tried::Blocked);
            assert_waits(&lock, 'a', mode);
            assert_eq!(released(&lock, mode), "a");
        }
    }

    #[test]
    fn a_group_that_does_not_fit_waits_as_a_whole() {
        let lock = held_by_many(&[(Shared, MAX)]);
        assert_waits(&lock, 'a', Shared);
        assert_waits(&lock, 'b', Shared);
        assert_eq!(released(&lock, Shared), "");
        assert_eq!(released(&lock, Shared), "ab");
    }

    /// The count of the weaker mode ran over into that of the stronger one.
    #[test]
    fn a_downgrade_to_a_mode_that_many_hold_spills_nothing() {
        let lock = held_by_many(&[(IntentShared, MAX - 1), (IntentExclusive, 1)]);
        assert_eq!(lock.try_take(IntentShared, 0), Tried::Blocked);
        lock.downgrade(IntentExclusive, IntentShared, AT, &mut Vec::new());
        assert_eq!(lock.held(), Held::FREE.with(IntentShared, MAX));
    }

    /// It made room in the mode that it left, and nobody looked at the queue.
    #[test]
    fn an_upgrade_at_once_leaves_no_place_that_somebody_waits_for() {
        let lock = held_by_many(&[(IntentShared, MAX)]);
        assert_waits(&lock, 'a', IntentShared);
        assert!(lock.try_convert(IntentShared, IntentExclusive, AT));
        assert!(lock.inspect(|held, queue| queue.expect("a waits").next(held).is_none()));
        assert_eq!(released(&lock, IntentExclusive), "a");
    }
}
