//! A post as the venue usually writes it, read in one pass without asking what each value might be.
//!
//! Keys may stand in any order, but only those that are known, without blanks, each once. On the first byte that is not
//! as expected it gives up, and [`parse_any_order`](super::line::parse_any_order) reads the line from the start: this
//! file is an optimisation that may be deleted.

use std::borrow::Cow;

use tapedeck_market::SmolStr;

use super::line::Parts;
use crate::sources::cursor::Cursor;

/// Reads a line that is a post. `None`: look closer.
pub(super) fn scan(line: &str) -> Option<Parts<'_>> {
    let mut text = Cursor::new(line)?;
    let (mut parts, mut users) = (Parts::default(), Vec::new());
    let (mut has_data, mut has_includes, mut has_rules) = (false, false, false);
    text.object(|text, key| match key {
        "data" if !has_data => {
            has_data = true;
            data(text, &mut parts)
        }
        "includes" if !has_includes => {
            has_includes = true;
            text.object(|text, key| {
                if key != "users" || !users.is_empty() {
                    return None;
                }
                text.list(|text| {
                    users.push(user(text)?);
                    Some(())
                })
            })
        }
        "matching_rules" if !has_rules => {
            has_rules = true;
            text.list(|text| rule(text, &mut parts.tags))
        }
        _ => None,
    })?;
    if !has_data || !text.is_at_end() {
        return None;
    }
    let author = parts.author_id.as_deref().unwrap_or_default();
    if let Some(user) = users.into_iter().find(|user| user.id.as_deref() == Some(author)) {
        parts.username = user.username;
        parts.location = user.location;
        (parts.followers, parts.posts) = (user.followers, user.posts);
    }
    Some(parts)
}

fn data<'a>(text: &mut Cursor<'a>, parts: &mut Parts<'a>) -> Option<()> {
    let (mut has_metrics, mut has_history) = (false, false);
    text.object(|text, key| match key {
        "id" => text.once(&mut parts.id),
        "text" => text.once(&mut parts.text),
        "created_at" => text.once(&mut parts.time),
        "lang" => text.once(&mut parts.lang),
        "author_id" => text.once(&mut parts.author_id),
        "edit_history_tweet_ids" if !has_history => {
            has_history = true;
            text.list(|text| {
                parts.history.push(text.string()?);
                Some(())
            })
        }
        "public_metrics" if !has_metrics => {
            has_metrics = true;
            parts.metrics.reserve(8);
            text.object(|text, key| {
                let known = !super::line::is_name(key) || parts.metrics.iter().any(|(name, _)| name == key);
                let count = text.count().filter(|_| !known)?;
                parts.metrics.push((SmolStr::new(key), count));
                Some(())
            })
        }
        _ => None,
    })
}

#[derive(Default)]
struct User<'a> {
    id: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    username: Option<Cow<'a, str>>,
    location: Option<Cow<'a, str>>,
    followers: Option<i64>,
    posts: Option<i64>,
}

fn user<'a>(text: &mut Cursor<'a>) -> Option<User<'a>> {
    let (mut user, mut has_metrics) = (User::default(), false);
    text.object(|text, key| match key {
        "id" => text.once(&mut user.id),
        "name" => text.once(&mut user.name),
        "username" => text.once(&mut user.username),
        "location" => text.once(&mut user.location),
        "public_metrics" if !has_metrics => {
            has_metrics = true;
            text.object(|text, key| {
                let count = text.count()?;
                let place = match key {
                    "followers_count" => &mut user.followers,
                    "tweet_count" => &mut user.posts,
                    _ => return Some(()),
                };
                place.replace(count).is_none().then_some(())
            })
        }
        _ => None,
    })?;
    Some(user)
}

fn rule<'a>(text: &mut Cursor<'a>, tags: &mut Vec<Cow<'a, str>>) -> Option<()> {
    let (mut id, mut tag) = (None, None);
    text.object(|text, key| match key {
        "id" => text.once(&mut id),
        "tag" => text.once(&mut tag),
        _ => None,
    })?;
    tags.extend(tag);
    Some(())
}
