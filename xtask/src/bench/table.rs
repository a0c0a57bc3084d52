//! Rows as tables.

use serde_json::Value;

/// Costs of calls: the rows have `instructions_per_call` or `nanoseconds_per_call`.
pub fn calls(rows: &[Value]) {
    let is_cost = |name: &&String| name.ends_with("_per_call");
    let cost = rows.iter().flat_map(Value::as_object).flat_map(|row| row.keys()).find(is_cost);
    let cost = cost.map_or("", String::as_str);
    println!("{:<6}{:<10}{:>14}{:>10}  what", "hook", "by", cost.trim_end_matches("_per_call"), "x empty");
    for row in rows {
        let ratio = row["of_empty"].as_f64().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let cost = row[cost].to_string();
        println!("{:<6}{:<10}{cost:>14}{ratio:>10}  {}", text(row, "hook"), text(row, "by"), text(row, "what"));
    }
}

/// Rows of which only their names say what is in them.
pub fn others(rows: &[Value]) {
    for row in rows {
        let values = row.as_object().into_iter().flatten().filter(|(name, value)| *name != "what" && !value.is_null());
        let values: Vec<String> = values.map(|(name, value)| format!("{name} {value}")).collect();
        println!("{}\n    {}", text(row, "what"), values.join(", "));
    }
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}
