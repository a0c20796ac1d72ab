"use strict";

// The words of a filter: `lr=0.1`, `f1>0.8`, `augment:standard`, `state:failed`, or a word that a row contains. A row
// passes if it passes every one of them.
const words = (() => {
  const TERM = /(?:([^\s"=<>:!]+)(>=|<=|!=|=|<|>|:))?("(?:[^"\\]|\\.)*"?|[^\s"]+)/g;

  const unquoted = (text) => (text.startsWith('"') ? text.replace(/^"|"$/g, "").replace(/\\(.)/g, "$1") : text);
  const quoted = (text) => (/[\s"\\=<>:!]/.test(text) || text === "" ? `"${text.replace(/["\\]/g, "\\$&")}"` : text);
  const fieldName = (text) => text.toLowerCase().replaceAll(/[-_\s]+/g, "_");

  // [{field, op, value, text}]; `field` is "" for a word alone.
  function parsed(text) {
    return [...text.matchAll(TERM)]
      .map(([whole, field, op, value]) => ({
        field: field ? fieldName(field) : "", op: op ?? "", value: unquoted(value), text: whole,
      }))
      .filter(({ field, text: whole }) => field || !/[=<>:]$/.test(whole)); // "lr=" while the value is being typed
  }

  // `row`: {text, fields, shown}: its text in lower case; its values by field name, numbers, text or a list of texts, such as
  // tags; the texts of numbers that the page rounds.
  function passes({ field, op, value, text }, row) {
    if (!field) return row.text.includes(value.toLowerCase());
    if (!Object.hasOwn(row.fields, field)) return op === ":" && row.text.includes(text.toLowerCase());
    const own = row.fields[field];
    if (Array.isArray(own)) {
      const passesOne = (item) => passes({ field, op: op === "!=" ? "=" : op, value, text }, { ...row, fields: { [field]: item } });
      return own.some(passesOne) !== (op === "!=");
    }
    if (op === ":") return String(own ?? "").toLowerCase().includes(value.toLowerCase());
    const number = Number(value);
    if (typeof own === "number" && value.trim() !== "" && !Number.isNaN(number)) {
      const isShown = Object.hasOwn(row.shown ?? {}, field) && Number(row.shown[field]) === number;
      const isEqual = isShown || Math.abs(own - number) <= 1e-9 * Math.abs(number);
      return { "=": isEqual, "!=": !isEqual, "<": own < number, ">": own > number, "<=": own <= number, ">=": own >= number }[op];
    }
    if (typeof own === "number") return op === "=" && row.text.includes(text.toLowerCase()); // of a name: lr=0.1_s0
    const isSame = String(own ?? "").toLowerCase() === value.toLowerCase();
    return op === "=" ? isSame : op === "!=" ? !isSame : false; // text is not ordered
  }

  // Fields of the terms that no row has.
  function unknown(terms, rows) {
    const known = new Set(rows.flatMap((row) => Object.keys(row.fields)));
    return [...new Set(terms.filter(({ field, op }) => field && op !== ":" && !known.has(field)).map(({ field }) => field))];
  }

  // The text with `field=value` in place of other terms of that field with this `op`; without it where value is "".
  function replaced(text, field, value, op = "=") {
    const kept = parsed(text).filter((term) => !(term.field === fieldName(field) && term.op === op)).map((term) => term.text);
    return [...kept, ...(value === "" ? [] : [`${fieldName(field)}${op}${quoted(value)}`])].join(" ");
  }

  // The value of the term of a field, or "".
  const valueOf = (text, field, op = "=") =>
    parsed(text).find((term) => term.field === fieldName(field) && term.op === op)?.value ?? "";

  return { parsed, passes, unknown, replaced, valueOf, fieldName };
})();
