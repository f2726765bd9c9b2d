//! The draft tried as a config. What is refused becomes a comment, with the refusal as its reason.

use super::draft::{Draft, Reader};
use crate::config::{Inputs, Problem, Problems, resolve};

/// Each turn takes one thing out; a draft has fewer than so many.
const TURNS: usize = 500;

pub(super) fn take_out_what_is_refused(draft: &mut Draft) {
    for _ in 0..TURNS {
        let Some(problem) = first_problem(draft) else { return };
        if !take_out(draft, &problem) {
            return;
        }
    }
}

fn first_problem(draft: &Draft) -> Option<Problem> {
    let text = draft.print(Reader::Trial);
    let inputs = Inputs { file: Some(("the import".to_owned(), text)), ..Inputs::default() };
    let build = || {
        let loaded = resolve(&inputs)?;
        if draft.any_below("source") { loaded.build(&[]).map(drop) } else { Ok(()) }
    };
    let problems: Problems = build().err()?;
    problems.list.into_iter().next()
}

/// `false`: nothing of the draft is what is meant.
fn take_out(draft: &mut Draft, problem: &Problem) -> bool {
    let help = problem.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
    let why = format!("{}{help}", problem.message);
    let words: Vec<&str> = problem.message.split('`').skip(1).step_by(2).collect();
    // From the longest table that it names to the shortest.
    for split in (1..=problem.path.len()).rev() {
        let table = problem.path[..split].join(".");
        // Kinds say only in words which key it is.
        let named = problem.path.get(split).map(String::as_str).into_iter().chain(words.iter().copied());
        if draft.has(&table) && named.into_iter().any(|key| draft.refuse(&table, key, &why)) {
            return true;
        }
        // A password without its user, say.
        if draft.forget(&table, &problem.message) {
            return true;
        }
        if draft.refuse_table(&table, &why) {
            return true;
        }
    }
    false
}
