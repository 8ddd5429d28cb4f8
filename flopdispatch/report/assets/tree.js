"use strict";

// The tree of modules, read from the lists that the report's data is written in.

const COLOURS = 8; // types that have a colour of their own

function readTree(data) {
  const nodes = [];
  const coloured = Math.min(data.coloured, COLOURS);
  data.parent.forEach((place, i) => {
    const parent = place < 0 ? null : nodes[place];
    const name = data.name[i];
    const node = {
      id: i,
      parent,
      name,
      path: parent === null ? data.path : parent.path ? `${parent.path}.${name}` : name,
      type: data.types[data.type[i]],
      colour: data.type[i] < coloured ? data.type[i] : null,
      also: data.also[i],
      ran: data.ran[i] === 1,
      level: parent === null ? 1 : parent.level + 1,
      children: [],
    };
    node.sought = `${node.path} ${node.type}`.toLowerCase();
    if (parent !== null) parent.children.push(node);
    nodes.push(node);
  });
  const columns = data.columns.map((column) => {
    const figures = column.figures.map(([value, exact, short, share]) => ({
      value,
      exact,
      short,
      share,
    }));
    return {
      key: column.key,
      label: column.label,
      sized: column.sized,
      total: (node) => figures[column.total[node.id]],
      own: (node) => figures[column.own[node.id]],
    };
  });
  return { root: nodes[0], nodes, types: data.types.slice(0, coloured), columns };
}

// The modules that a search finds, and these with all that they are in; null where none is asked.
function search(tree, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return null;
  const found = new Set(
    tree.nodes.filter((node) => words.every((word) => node.sought.includes(word))),
  );
  const kept = new Set();
  for (const node of found) {
    for (let above = node; above !== null && !kept.has(above); above = above.parent)
      kept.add(above);
  }
  return { found, kept };
}

const collator = new Intl.Collator("en", { numeric: true }); // layer.2 comes before layer.10

// How two things compare under a head that has a number or a text of each.
function compared({ number, text }, a, b) {
  if (number) return number(a) - number(b);
  return collator.compare(text(a), text(b));
}

// An element with properties; text only ever becomes text.
function make(tag, properties = {}, attributes = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
