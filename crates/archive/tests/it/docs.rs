//! `docs/archive.md` lists every column; `UPDATE_GOLDEN=1` rewrites that part of it.

use std::fmt::Write as _;
use std::fs;

use arrow::datatypes::DataType;
use tapedeck_archive::{Table, schema};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/archive.md");
const BEGIN: &str = "<!-- tables: written by a test -->\n";

#[test]
fn the_page_lists_every_column_of_every_table() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, found) = page.split_once(BEGIN).expect("the page marks where the tables begin");
    let wanted = tables();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(PAGE, format!("{before}{BEGIN}{wanted}")).unwrap();
        return;
    }
    assert!(found == wanted, "docs/archive.md is behind: UPDATE_GOLDEN=1 cargo test -p tapedeck-archive docs");
}

fn tables() -> String {
    let mut out = String::new();
    let common = schema(Table::Trades).fields().iter().take_while(|field| field.name() != "price").count();
    let _ = write!(out, "\n## Columns of every table\n\n{}", rows(Table::Trades, 0..common));
    let _ = writeln!(out, "| `exact` | text | {} |", comment(schema(Table::Trades).fields().last().unwrap()));
    for table in Table::ALL {
        let _ = write!(
            out,
            "\n## {table}\n\n{} Kept {} days by default (`{}`).\n\n",
            table.doc(),
            table.policy().days(),
            table.policy().name()
        );
        let last = schema(table).fields().len() - 1;
        out.push_str(&rows(table, common..last));
    }
    out
}

fn rows(table: Table, range: std::ops::Range<usize>) -> String {
    let mut out = String::from("| column | type | meaning |\n|---|---|---|\n");
    for field in &schema(table).fields()[range] {
        let _ = writeln!(out, "| `{}` | {} | {} |", field.name(), type_name(field.data_type()), comment(field));
    }
    out
}

fn comment(field: &arrow::datatypes::Field) -> String {
    field.metadata().get("comment").cloned().unwrap_or_default().replace('|', "\\|")
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int64 => "int64".into(),
        DataType::Float64 => "double".into(),
        DataType::Boolean => "bool".into(),
        DataType::Utf8 => "text".into(),
        DataType::Binary => "bytes".into(),
        DataType::Dictionary(..) => "text (dictionary)".into(),
        DataType::Timestamp(..) => "timestamp, ns".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(of) => format!("list of {}", type_name(of.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("`{}` {}", field.name(), type_name(field.data_type()))).collect();
            format!("({})", fields.join(", "))
        }
        other => format!("{other}"),
    }
}
