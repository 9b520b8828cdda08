//! Small histories, put before a checker that knows nothing of revisions: it searches for an order of its own.

use std::{collections::HashMap, sync::Arc};

use todc_utils::{
    linearizability::{
        WGLChecker,
        history::{Action, History as Actions},
    },
    specifications::Specification,
};

use crate::{
    clients::is_cell,
    history::{
        Condition, Consistency, History, Micros, Outcome, ReadResult, ReadTarget, Seen, Tag, Target, Verb,
    },
};

/// The search takes long where many overlap.
const MOST_OPERATIONS: usize = 200;

/// How many histories and operations were checked, how many were too long, and what was found.
#[derive(Debug, Default)]
pub struct Searched {
    pub histories: usize,
    pub operations: usize,
    pub too_long: usize,
    pub findings: Vec<String>,
}

pub fn check(history: &History, revisions: &HashMap<Tag, i64>) -> Searched {
    let mut searched = Searched::default();
    for (name, mut timed) in by_cell(history, revisions) {
        if timed.len() > MOST_OPERATIONS {
            searched.too_long += 1;
            continue;
        }
        searched.histories += 1;
        searched.operations += timed.len();
        timed.sort_by_key(|timed| timed.invoked);
        if !WGLChecker::<Cell>::is_linearizable(actions(&timed)) {
            searched.findings.push(format!("no order explains {name}: {timed:?}"));
        }
    }
    searched
}

#[derive(Clone, Debug)]
struct Timed {
    invoked: Micros,
    completed: Micros,
    operation: Operation,
}

/// What was asked of a configuration, with what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put { condition: Condition, tag: Tag, told: Option<i64> },
    Delete { condition: Condition },
    Refused { condition: Condition, status: u16 },
    Read(Option<Seen>),
}

fn by_cell(history: &History, revisions: &HashMap<Tag, i64>) -> HashMap<Arc<str>, Vec<Timed>> {
    let mut cells: HashMap<Arc<str>, Vec<Timed>> = HashMap::new();
    for write in &history.writes {
        let Target::Config(name) = &write.target else { continue };
        let condition = write.condition;
        let done = |told| match write.verb {
            Verb::DeleteConfig => Operation::Delete { condition },
            _ => Operation::Put { condition, tag: write.tag, told },
        };
        let operation = match write.outcome {
            Outcome::Done { version, .. } => done(version),
            Outcome::Refused { status, .. } => Operation::Refused { condition, status },
            // where nobody knows the outcome, the log does: what is not in it never happened
            Outcome::Unknown | Outcome::Odd(_) if revisions.contains_key(&write.tag) => done(None),
            Outcome::Unknown | Outcome::Odd(_) | Outcome::Failed { .. } => continue,
        };
        let timed = Timed { invoked: write.invoked, completed: write.completed, operation };
        cells.entry(Arc::clone(name)).or_default().push(timed);
    }
    for read in &history.reads {
        if let (ReadTarget::Row(Target::Config(name)), ReadResult::Row(seen), Consistency::Strong) =
            (&read.target, &read.result, read.consistency)
        {
            let operation = Operation::Read(seen.clone());
            let timed = Timed { invoked: read.invoked, completed: read.completed, operation };
            cells.entry(Arc::clone(name)).or_default().push(timed);
        }
    }
    cells.retain(|name, _| is_cell(name));
    cells
}

/// Calls and responses in the order of time; what happens at once overlaps.
fn actions(timed: &[Timed]) -> Actions<Operation> {
    let mut points: Vec<(Micros, bool, usize)> = Vec::new();
    for (process, timed) in timed.iter().enumerate() {
        points.push((timed.invoked, false, process));
        points.push((timed.completed, true, process));
    }
    points.sort_unstable();
    let action = |(_, is_response, process): (Micros, bool, usize)| {
        let operation = timed[process].operation.clone();
        (process, if is_response { Action::Response(operation) } else { Action::Call(operation) })
    };
    Actions::from_actions(points.into_iter().map(action).collect())
}

/// A configuration: a version that rises with every change, and a content while it is there.
struct Cell;

impl Specification for Cell {
    type State = (i64, Option<Tag>);
    type Operation = Operation;

    fn init() -> Self::State {
        (0, None)
    }

    fn apply(operation: &Operation, state: &Self::State) -> (bool, Self::State) {
        let (version, content) = *state;
        let live = content.map(|_| version);
        let holds = |condition: &Condition| match condition {
            Condition::None => true,
            Condition::Version(wanted) => live == Some(*wanted),
            Condition::Absent => live.is_none(),
        };
        match operation {
            Operation::Put { condition, tag, told } => {
                let good = holds(condition) && told.is_none_or(|told| told == version + 1);
                (good, if good { (version + 1, Some(*tag)) } else { *state })
            }
            Operation::Delete { condition } => {
                let good = live.is_some() && holds(condition);
                (good, if good { (version + 1, None) } else { *state })
            }
            Operation::Refused { condition, status } => {
                (if *status == 404 { live.is_none() } else { !holds(condition) }, *state)
            }
            Operation::Read(seen) => {
                let there = content.map(|tag| Seen { version, tag: Some(tag) });
                (*seen == there, *state)
            }
        }
    }
}
