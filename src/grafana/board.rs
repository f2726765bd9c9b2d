//! A dashboard: panels in rows of 24 columns, none over another.

use serde_json::{Value as Json, json};

use super::ask::Target;

const COLUMNS: u32 = 24;
/// The model of Grafana 11: newer ones bring it up to date as they read it, older ones read what they know of it.
const SCHEMA: u32 = 39;

/// A data source as a panel refers to it.
#[derive(Clone, Debug)]
pub(super) struct Ref {
    pub kind: &'static str,
    pub uid: String,
}

impl Ref {
    fn json(&self) -> Json {
        json!({ "type": self.kind, "uid": self.uid })
    }
}

/// A dashboard in the making.
#[derive(Debug)]
pub(super) struct Board {
    uid: String,
    title: String,
    tags: Vec<String>,
    source: Ref,
    panels: Vec<Json>,
    variables: Vec<Json>,
    annotations: Vec<Json>,
    /// Where the next panel goes, and how high its row is.
    at: (u32, u32),
    row: u32,
}

/// What of a panel differs by its kind.
#[derive(Debug)]
pub(super) enum Look {
    Series,
    Stat,
    Table,
    Candles,
}

impl Board {
    pub(super) fn new(uid: String, title: String, tags: &[&str], source: Ref) -> Board {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        Board {
            uid,
            title,
            tags,
            source,
            panels: Vec::new(),
            variables: Vec::new(),
            annotations: Vec::new(),
            at: (0, 0),
            row: 0,
        }
    }

    /// Adds a panel right of the last one, or below where there is no room; sizes in columns and rows of the grid.
    pub(super) fn panel(
        &mut self,
        (width, height): (u32, u32),
        title: &str,
        unit: &str,
        look: Look,
        asks: Vec<Target>,
    ) {
        if self.at.0 + width > COLUMNS {
            self.at = (0, self.at.1 + self.row);
            self.row = 0;
        }
        let targets: Vec<Json> = asks
            .into_iter()
            .zip('A'..='Z')
            .map(|(mut target, letter)| {
                target["refId"] = json!(letter.to_string());
                target["datasource"] = self.source.json();
                target
            })
            .collect();
        let (kind, custom, options) = look.parts();
        self.panels.push(json!({
            "id": self.panels.len() + 1, "type": kind, "title": title, "datasource": self.source.json(),
            "gridPos": { "x": self.at.0, "y": self.at.1, "w": width, "h": height },
            "targets": targets,
            "fieldConfig": { "defaults": { "unit": unit, "custom": custom }, "overrides": [] },
            "options": options,
        }));
        self.at.0 += width;
        self.row = self.row.max(height);
    }

    /// A variable whose values come from the store.
    pub(super) fn variable(&mut self, name: &str, label: &str, query: &str, several: bool) {
        let current = match several {
            true => json!({ "selected": true, "text": ["All"], "value": ["$__all"] }),
            false => json!({}),
        };
        self.variables.push(json!({
            "name": name, "label": label, "type": "query", "datasource": self.source.json(),
            "query": query, "definition": query, "refresh": 2, "sort": 1, "regex": "", "hide": 0, "skipUrlSync": false,
            "multi": several, "includeAll": several, "options": [], "current": current,
        }));
    }

    /// Filters by any tag, where the data source knows them.
    pub(super) fn filters(&mut self) {
        self.variables.push(json!({
            "name": "filters", "label": "Filters", "type": "adhoc", "datasource": self.source.json(),
            "filters": [], "hide": 0, "skipUrlSync": false,
        }));
    }

    /// Marks over all graphs.
    pub(super) fn marks(&mut self, name: &str, ask: Target) {
        let mut mark = json!({
            "name": name, "datasource": self.source.json(), "enable": true, "hide": false, "iconColor": "red",
        });
        // InfluxDB 1.x keeps its question beside the rest, the others in a target.
        match ask.get("rawSql").is_some() || ask.get("textColumn").is_none() {
            true => {
                mark["target"] = ask;
                mark["target"]["refId"] = json!("Anno");
                mark["target"]["datasource"] = self.source.json();
            }
            false => mark
                .as_object_mut()
                .into_iter()
                .for_each(|mark| mark.extend(ask.as_object().cloned().unwrap_or_default())),
        }
        self.annotations.push(mark);
    }

    /// The whole of it, as Grafana keeps it.
    pub(super) fn json(self, refresh: &str) -> Json {
        let own = json!({
            "name": "Annotations & Alerts", "builtIn": 1, "type": "dashboard", "enable": true, "hide": true,
            "iconColor": "rgba(0, 211, 255, 1)", "datasource": { "type": "grafana", "uid": "-- Grafana --" },
        });
        let annotations: Vec<Json> = [own].into_iter().chain(self.annotations).collect();
        json!({
            "id": null, "uid": self.uid, "title": self.title, "tags": self.tags, "schemaVersion": SCHEMA, "version": 0,
            "editable": true, "graphTooltip": 1, "timezone": "browser", "refresh": refresh,
            "time": { "from": "now-1h", "to": "now" }, "timepicker": {}, "links": [], "fiscalYearStartMonth": 0,
            "annotations": { "list": annotations }, "templating": { "list": self.variables }, "panels": self.panels,
        })
    }
}

impl Look {
    /// Name of the panel's kind, settings of its fields, and its options.
    fn parts(&self) -> (&'static str, Json, Json) {
        let legend = json!({ "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] });
        match self {
            Look::Series => (
                "timeseries",
                json!({ "drawStyle": "line", "lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "spanNulls": false }),
                json!({ "legend": legend, "tooltip": { "mode": "multi", "sort": "none" } }),
            ),
            Look::Stat => (
                "stat",
                json!({}),
                json!({
                    "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
                    "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                }),
            ),
            Look::Table => ("table", json!({}), json!({ "showHeader": true, "cellHeight": "sm" })),
            Look::Candles => (
                "candlestick",
                json!({}),
                json!({ "mode": "candles+volume", "candleStyle": "candles", "colorStrategy": "open-close",
                    "fields": { "open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume" },
                    "includeAllFields": false, "legend": legend }),
            ),
        }
    }
}
