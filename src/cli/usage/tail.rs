//! `llmproxy usage tail`: the last events, and those to come.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Form, Out, Reader, buffered};
use super::select::{Selected, Selection};
use super::{Failure, Place};
use crate::ledger::{Ledger, Position, Tail, UsageEvent};

/// Options of `llmproxy usage tail`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// How many events that are there already.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    lines: usize,
    /// Go on with new events as they are recorded, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    form: Form,
}

/// How often the ledger is asked for more.
const LOOK: Duration = Duration::from_millis(200);

/// Events between two looks whether somebody pressed Ctrl-C.
const AT_A_TIME: usize = 1000;

pub(super) fn tail(options: &Options) -> Result<(), Failure> {
    let selected = options.selection.build()?;
    let dir = options.place.home()?.ledger()?;
    let mut out = Out::new(buffered(), options.form.format());
    let (events, ahead) = last(&dir, &selected, options.lines)?;
    for event in &events {
        if out.event(event)? == Reader::Gone {
            return Ok(());
        }
    }
    if out.header()? == Reader::Gone || out.flush()? == Reader::Gone || !options.follow {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(follow(ahead, &selected, &mut out))
}

async fn follow(
    mut tail: Tail,
    selected: &Selected,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let mut pause = Duration::ZERO;
        for _ in 0..AT_A_TIME {
            let Some(stored) = tail.next()? else {
                pause = LOOK;
                break;
            };
            if selected.takes(&stored.event) && out.event(&stored.event)? == Reader::Gone {
                return Ok(());
            }
        }
        if out.flush()? == Reader::Gone {
            return Ok(());
        }
        tokio::select! {
            biased;
            pressed = &mut interrupted => return Ok(pressed?),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The last `count` events that are selected, oldest first, and the reader that goes on after them.
///
/// Reads segments from the youngest back, so that a long ledger costs no more than a short one when
/// the events are found soon.
fn last(
    dir: &Path,
    selected: &Selected,
    count: usize,
) -> io::Result<(VecDeque<Arc<UsageEvent>>, Tail)> {
    let (start, end) = (Ledger::start_of(dir)?, Ledger::end_of(dir)?);
    let begin = |segment| Position { segment, offset: 0 };
    let mut ahead = Tail::new(dir, begin(end.segment));
    let mut newest = read(&mut ahead, None, selected, count)?;
    for segment in (start.segment..end.segment).rev() {
        if newest.len() >= count {
            break;
        }
        let mut tail = Tail::new(dir, begin(segment));
        let until = Some(begin(segment + 1));
        let mut older = read(&mut tail, until, selected, count - newest.len())?;
        older.append(&mut newest);
        newest = older;
    }
    Ok((newest, ahead))
}

/// The last `count` selected events up to there.
fn read(
    tail: &mut Tail,
    until: Option<Position>,
    selected: &Selected,
    count: usize,
) -> io::Result<VecDeque<Arc<UsageEvent>>> {
    let mut events = VecDeque::new();
    while let Some(stored) = tail.next()? {
        if until.is_some_and(|until| stored.next > until) {
            break;
        }
        if selected.takes(&stored.event) {
            events.push_back(stored.event);
            if events.len() > count {
                events.pop_front();
            }
        }
    }
    Ok(events)
}
