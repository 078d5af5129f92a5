// Holds Grafana's dashboards against Grafana's own types: each file of the folder given becomes a TypeScript
// value, which the compiler compares with @grafana/schema, panel options and field settings included. What does
// not fit is told on stderr with exit code 1; keys that the types do not know are mistakes too.
"use strict";

const fs = require("fs");
const path = require("path");
const ts = require("typescript");

const [folder, work] = process.argv.slice(2);
const modules = process.env.NODE_PATH;

// Types that hold for JSON: members of a string enum are written as their values there.
const PRELUDE = `
import type * as schema from "@grafana/schema";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
type Json<T> = T extends string ? T | \`\${T}\` : T extends (infer U)[] ? Json<U>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
interface Query { refId: string; datasource?: schema.DataSourceRef }
interface GraphiteQuery extends Query { target: string }
interface PrometheusQuery extends Query { expr: string; legendFormat: string }
type Defaults<C> = Omit<schema.FieldConfig, "custom"> & { custom?: C };
type PanelOf<Name, Options, Custom> = Omit<schema.Panel, "type" | "options" | "fieldConfig" | "targets" | "title" | "description" | "datasource"> & {
  type: Name; title: string; description: string; datasource: schema.DataSourceRef; options: Options;
  targets: (GraphiteQuery | PrometheusQuery)[]; fieldConfig: { defaults: Defaults<Custom>; overrides: [] } };
type Panels = {
  row: schema.RowPanel;
  stat: PanelOf<"stat", stat.Options, Record<string, never>>;
  timeseries: PanelOf<"timeseries", timeseries.Options, timeseries.FieldConfig>;
};
type Board = Omit<schema.Dashboard, "panels" | "annotations"> & { uid: string; title: string; description: string;
  annotations: { list: (Omit<schema.AnnotationQuery, "target"> & { target: GraphiteQuery | { refId: string; expr: string } })[] } };
`;

const files = [];
for (const name of fs.readdirSync(folder)) {
  const board = JSON.parse(fs.readFileSync(path.join(folder, name), "utf8"));
  const { panels, ...rest } = board;
  let text = `${PRELUDE}\nconst board: Json<Board> = ${JSON.stringify(rest, null, 1)};\nvoid board;\n`;
  panels.forEach((panel, index) => {
    text += `const panel${index}: Json<Panels[${JSON.stringify(panel.type)}]> = ${JSON.stringify(panel, null, 1)};\n`;
    text += `void panel${index};\n`;
  });
  const file = path.join(work, name.replace(".json", ".ts"));
  fs.writeFileSync(file, text);
  files.push(file);
}
fs.symlinkSync(modules, path.join(work, "node_modules"));
const program = ts.createProgram(files, {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  types: [],
});
const found = ts.getPreEmitDiagnostics(program);
if (found.length > 0) {
  console.error(ts.formatDiagnostics(found, { getCurrentDirectory: () => work, getCanonicalFileName: (f) => f, getNewLine: () => "\n" }));
  process.exit(1);
}
console.log(`${files.length} dashboards fit`);
