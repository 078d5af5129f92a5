// Reads a YAML file with a real parser and prints it as JSON. With --compose the file must also follow the
// compose specification's schema, which the package dclint carries; what does not is told on
// stderr with exit code 1.
"use strict";

const fs = require("fs");
const path = require("path");
const yaml = require("yaml");

const [file, mode] = process.argv.slice(2);
const document = yaml.parseDocument(fs.readFileSync(file, "utf8"), { uniqueKeys: true });
if (document.errors.length > 0 || document.warnings.length > 0) {
  console.error([...document.errors, ...document.warnings].map(String).join("\n"));
  process.exit(1);
}
const value = document.toJS();
if (mode === "--compose") {
  const Ajv = require("ajv");
  const modules = process.env.NODE_PATH;
  const schema = JSON.parse(fs.readFileSync(path.join(modules, "dclint/schemas/compose.schema.json"), "utf8"));
  // ajv knows the draft by its http address; the schema names it by https.
  delete schema.$schema;
  const validate = new Ajv({ strict: false, allErrors: true, validateFormats: false }).compile(schema);
  if (!validate(value)) {
    console.error(validate.errors.map((error) => `${error.instancePath} ${error.message}`).join("\n"));
    process.exit(1);
  }
}
console.log(JSON.stringify(value));
