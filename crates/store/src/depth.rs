//! How deep a statement may be.
//!
//! `1 + 1 + 1 …` is a tree that leans to the left, a level for each operator. The parser builds it in a loop, and everything
//! after it walks it by recursion, its dropping too: a text of a few thousand operators would end the process. So they are
//! counted in the text, before there is a tree.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Most operators between two commas, brackets not counted. Tools write some dozens; four times as many as these still fit
/// the stack of a worker, without optimisation.
const OPERATORS_MAX: usize = 250;

/// Refuses a text whose tree would be too deep.
///
/// # Errors
/// [`ParserError::RecursionLimitExceeded`]; what is no text of tokens.
pub(crate) fn check(sql: &str) -> Result<(), ParserError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize()?;
    // Operators of each open bracket: a comma parts them, an inner bracket has its own.
    let mut open = vec![0_usize];
    for token in &tokens {
        match token {
            Token::LParen | Token::LBracket => open.push(0),
            Token::RParen | Token::RBracket if open.len() > 1 => drop(open.pop()),
            Token::Comma | Token::SemiColon => {
                if let Some(count) = open.last_mut() {
                    *count = 0;
                }
            }
            token if chains(token) => {
                if let Some(count) = open.last_mut() {
                    *count += 1;
                    if *count > OPERATORS_MAX {
                        return Err(ParserError::RecursionLimitExceeded);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a token adds a level to the tree. Everything that is neither a name, a value nor a mark between them does, or may.
fn chains(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::COLLATE
                | Keyword::AT
        ),
        Token::Whitespace(_)
        | Token::EOF
        | Token::Number(..)
        | Token::Period
        | Token::Placeholder(_)
        | Token::Char(_)
        | Token::LBrace
        | Token::RBrace
        | Token::RParen
        | Token::RBracket => false,
        Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sql: &str) -> bool {
        matches!(check(sql), Err(ParserError::RecursionLimitExceeded))
    }

    #[test]
    fn what_is_deep_is_refused_and_what_is_long_is_not() {
        assert!(refused(&format!("select 1{}", "+1".repeat(1_000))));
        assert!(refused(&format!("select 1 where 1=1{}", " or 1=2".repeat(500))));
        assert!(refused(&format!("select {}true", "not ".repeat(1_000))));
        assert!(refused(&format!("select 1{}", " union all select 1".repeat(1_000))));
        assert!(refused(&format!("select 1{}", "::int".repeat(1_000))));
        assert!(refused(&format!("select f(1, 2){}", "+f(1, 2)".repeat(1_000))));
        assert!(refused(&format!("select '{{1}}'{}", "[1]".repeat(1_000) + &"+1".repeat(300))));

        assert!(!refused(&format!("select 1 in (1{})", ", 2".repeat(100_000))));
        assert!(!refused(&format!("select 1+1{}", ", 2*3+4".repeat(10_000))));
        assert!(!refused(&format!("select '{}'", "+1".repeat(100_000))));
        assert!(!refused(&format!("values (1+1){}", ", (2*2)".repeat(10_000))));
        assert!(!refused(&"select 1+1;".repeat(1_000)));
        assert!(!refused("select )))"));
    }
}
