"use strict";

// Controls whose values are in the address, each under a name of `state.FIELDS`.
const fields = (() => {
  // What a field has if the reader does not change it.
  function standard(field) {
    if (field.type === "checkbox") return "";
    return field.localName === "select" ? (field.options[0]?.value ?? "") : field.defaultValue;
  }

  // The value as text; "" for the standard value.
  function read(field) {
    const text = field.type === "checkbox" ? (field.checked ? "on" : "") : field.value;
    return text === standard(field) ? "" : text;
  }

  // An address may have anything: in place of what a menu does not have, the standard value is shown.
  function write(field, text = "") {
    if (field.type === "checkbox") field.checked = text === "on";
    else field.value = text || standard(field);
    if (field.localName === "select" && field.selectedIndex < 0) field.value = standard(field);
  }

  // Keeps fields ({name in the address: field}) and the address equal; `show` is called when one has another value.
  function follow(controls, show) {
    const names = Object.keys(controls);
    for (const [name, field] of Object.entries(controls)) {
      field.addEventListener("change", () => state.change("set", { [name]: read(field) }));
    }
    state.watch((now, before) => {
      if (names.every((name) => now.fields[name] === before.fields[name])) return;
      for (const name of names) write(controls[name], now.fields[name]);
      show();
    });
  }

  return { read, write, follow };
})();
