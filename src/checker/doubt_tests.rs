use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

struct Bench {
    doubt: Doubt<u64, u64>,
    now: Instant,
    told: Vec<u64>,
    others: bool,
}

impl Bench {
    /// So many targets have answered so far.
    fn with(targets: u64) -> Self {
        let now = Instant::now();
        let mut doubt = Doubt::new(now);
        (0..targets).for_each(|no| doubt.heard(no));
        Self { doubt, now, told: Vec::new(), others: true }
    }

    fn silent(&mut self, no: u64) {
        self.doubt.silent(no, Some(no), INTERVAL, self.others, self.now);
    }

    fn settle(&mut self) -> Vec<u64> {
        let Steps { tell, ask, .. } = self.doubt.settle(self.now, |_| false);
        self.told.extend(tell);
        ask
    }

    /// A trial, in which those are silent of whom it is said so.
    fn trial(&mut self, is_silent: impl Fn(u64) -> bool) {
        let asked = self.settle();
        assert!(asked.iter().all(|no| self.doubt.wants(*no)));
        for no in asked {
            if is_silent(no) { self.silent(no) } else { self.doubt.heard(no) }
        }
        self.settle();
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }
}

#[test]
fn one_silence_among_many_is_told_after_a_trial() {
    let mut bench = Bench::with(100);
    bench.silent(7);
    let asked = bench.settle();
    assert!(asked.len() >= ENOUGH && asked.len() <= ASKED && bench.told.is_empty());
    for no in asked {
        bench.doubt.heard(no);
    }
    bench.settle();
    assert_eq!((&*bench.told, bench.doubt.is_suspicious()), (&[7][..], false));
    // what comes next is another matter
    bench.silent(8);
    assert!(bench.settle().is_empty(), "not at once");
    bench.later(PAUSE);
    bench.trial(|_| false);
    assert_eq!(bench.told, [7, 8]);
}

#[test]
fn of_few_targets_everything_is_told_at_once() {
    let mut bench = Bench::with(19);
    bench.silent(3);
    assert!(bench.settle().is_empty());
    assert_eq!(bench.told, [3]);
}

#[test]
fn who_is_cut_off_tells_nothing_while_there_are_others() {
    let mut bench = Bench::with(100);
    bench.silent(1);
    bench.trial(|_| true);
    assert!(bench.doubt.is_suspicious());
    for _ in 0..20 {
        bench.later(INTERVAL);
        (0..100).for_each(|no| bench.silent(no));
        bench.trial(|_| true);
    }
    assert_eq!((bench.told.len(), bench.doubt.is_suspicious()), (0, true));
    // and goes on as before when most can be reached again
    bench.later(RETRY);
    bench.trial(|no| no % 10 == 0);
    assert!(!bench.doubt.is_suspicious());
    bench.settle();
    assert!(bench.told.is_empty());
}

#[test]
fn half_is_not_most() {
    for (silent, suspicious) in [(19, false), (20, false), (21, true)] {
        let mut bench = Bench::with(40);
        bench.silent(0);
        let asked = bench.settle();
        assert_eq!(asked.len(), 39, "the one that is silent counts as well");
        for (place, no) in asked.into_iter().enumerate() {
            if place + 1 < silent { bench.silent(no) } else { bench.doubt.heard(no) }
        }
        bench.settle();
        assert_eq!(bench.doubt.is_suspicious(), suspicious, "{silent} of 40");
    }
}

#[test]
fn where_nobody_is_trusted_a_silence_is_told_when_it_lasts() {
    let mut bench = Bench::with(50);
    bench.others = false;
    bench.silent(1);
    bench.trial(|_| true);
    bench.later(Duration::from_secs(1));
    (0..50).for_each(|no| bench.silent(no));
    bench.settle();
    assert!(bench.doubt.is_suspicious() && bench.told.is_empty());
    bench.later(INTERVAL);
    (0..50).for_each(|no| bench.silent(no));
    bench.settle();
    bench.told.sort_unstable();
    assert_eq!(bench.told, (0..50).collect::<Vec<_>>());
    // nobody is left by whom it could doubt itself
    bench.later(RETRY);
    bench.settle();
    assert!(!bench.doubt.is_suspicious());
}

#[test]
fn who_answers_in_between_begins_anew() {
    let mut bench = Bench::with(50);
    bench.others = false;
    bench.silent(1);
    bench.trial(|_| true);
    (0..50).for_each(|no| bench.silent(no));
    bench.later(INTERVAL);
    bench.doubt.heard(5);
    bench.silent(5);
    assert!(bench.told.is_empty());
    bench.later(INTERVAL);
    bench.silent(5);
    bench.settle();
    assert_eq!(bench.told, [5]);
}

#[test]
fn who_has_gone_is_waited_for_no_longer() {
    let mut bench = Bench::with(100);
    bench.silent(7);
    bench.silent(8);
    let asked = bench.settle();
    bench.doubt.forget(7);
    let (gone, left) = asked.split_at(5);
    for no in gone {
        bench.doubt.forget(*no);
    }
    for no in left {
        bench.doubt.heard(*no);
    }
    bench.settle();
    assert_eq!(bench.told, [8]);
    assert_eq!(bench.doubt.next(), None);
}

#[test]
fn whom_others_found_ill_proves_nothing() {
    let mut bench = Bench::with(100);
    bench.silent(0);
    bench.trial(|_| true);
    assert!(bench.doubt.is_suspicious());
    bench.later(RETRY);
    let steps = bench.doubt.settle(bench.now, |no| no < 90);
    assert!(steps.turned && !bench.doubt.is_suspicious(), "ten are too few");
}

#[test]
fn what_was_known_to_be_silent_is_no_reason_for_doubt() {
    let mut bench = Bench::with(100);
    for no in 0..70 {
        bench.doubt.silent(no, None, INTERVAL, true, bench.now);
    }
    bench.silent(80);
    bench.trial(|no| no < 70);
    assert!(!bench.doubt.is_suspicious());
    assert_eq!(bench.told, [80]);
}
