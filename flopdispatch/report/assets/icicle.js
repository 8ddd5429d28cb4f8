// The icicle: a bar for each module, as wide as its share, with the modules in it below.

const BAR = 26; // pixels that a level is high
const LEVELS = 40; // that are drawn below the zoomed module
const NARROWEST = 1; // pixel that a bar must have to be drawn
const APART = 3; // pixels that a bar must have to be set off from the next
const NAMED = 24; // pixels that a bar must have to bear a name

class Icicle {
  constructor(tree, box, told) {
    this.tree = tree;
    this.box = box;
    this.told = told; // what to call when a bar is looked at, when it is zoomed, when it is drawn
    this.zoomed = tree.root;
    this.column = null;
    this.search = null;
    this.bars = new Map(); // what is drawn, by its element
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => this.clicked(event));
    box.addEventListener("focusin", (event) => this.looked(event));
    box.addEventListener("mouseover", (event) => this.looked(event));
    let width = 0;
    new ResizeObserver(() => {
      if (width !== box.clientWidth) this.draw();
      width = box.clientWidth;
    }).observe(box);
  }

  // The bars to draw, each with its parent, its place and the part of the width that it takes, and
  // how many modules are left out. A bar is a module, what it computes on its own, or the rest of
  // the modules in it: those side by side that are too small to be drawn.
  layout() {
    const bars = [];
    let leftOut = 0;
    if (this.column.total(this.zoomed).value === 0) return { bars, leftOut };
    const least = NARROWEST / Math.max(this.box.clientWidth, 1);
    const waiting = [
      { kind: "module", node: this.zoomed, parent: null, left: 0, width: 1, level: 0 },
    ];
    while (waiting.length > 0) {
      const bar = waiting.pop();
      bars.push(bar);
      bar.children = [];
      const parts = bar.kind === "module" ? this.parts(bar.node) : [];
      const whole = parts.reduce((sum, { value }) => sum + value, 0);
      let left = bar.left;
      let rest = null;
      for (const { kind, node, value } of parts) {
        const width = (bar.width * value) / whole;
        const made = { kind, node, parent: bar, left, width, level: bar.level + 1 };
        left += width;
        if (width >= least && bar.level < LEVELS) {
          bar.children.push(made);
          rest = null;
        } else if (kind === "module") {
          if (rest === null) {
            rest = { ...made, kind: "rest", node: bar.node, width: 0, number: 0 };
            bar.children.push(rest);
          }
          const number = this.sized(node);
          rest.width += width;
          rest.number += number;
          leftOut += number;
        }
      }
      bar.children = bar.children.filter((child) => child.width >= least && child.level <= LEVELS);
      waiting.push(...bar.children.toReversed());
    }
    return { bars, leftOut };
  }

  // What a module is made of: the modules in it and, if there are any, what it computes on its own.
  parts(node) {
    const value = (one) => this.column.total(one).value;
    const parts = node.children
      .filter((child) => value(child) > 0)
      .map((child) => ({ kind: "module", node: child, value: value(child) }));
    // Children that share parameters have more of them together than their parent.
    const own = parts.reduce((left, part) => left - part.value, value(node));
    const shown = parts.length > 0 && own > 0 && this.column.own(node).value > 0;
    return shown ? [...parts, { kind: "own", node, value: own }] : parts;
  }

  // How many modules, from this one down, have a size.
  sized(node) {
    if (this.column.total(node).value === 0) return 0;
    return node.children.reduce((sum, child) => sum + this.sized(child), 1);
  }

  draw() {
    if (this.column === null) return;
    this.box.hidden = false; // a hidden one has no width
    const focused = this.bars.get(document.activeElement);
    const { bars, leftOut } = this.layout();
    this.bars = new Map(bars.map((bar) => [this.element(bar), bar]));
    this.box.replaceChildren(...this.bars.keys());
    const levels = bars.reduce((most, bar) => Math.max(most, bar.level + 1), 0);
    this.box.style.height = `${levels * BAR}px`;
    this.box.hidden = bars.length === 0;
    const again = bars.find(
      (bar) => focused && bar.node === focused.node && bar.kind === focused.kind,
    );
    const first = again ?? bars[0];
    if (first) first.element.tabIndex = 0;
    if (first && focused) first.element.focus();
    this.told.drawn(this.zoomed, bars, leftOut);
  }

  element(bar) {
    const { kind, node } = bar;
    const figure = kind === "own" ? this.column.own(node) : this.column.total(node);
    const figures = [`${figure.short} ${this.column.label}`, figure.share];
    const [name, more, told] = {
      module: [node.name, `${figure.share} ${node.type}`, [node.name, node.type, ...figures]],
      own: ["own", figure.share, [`own work of ${node.name}`, node.type, ...figures]],
      rest: [`${bar.number} small`, "", [`${bar.number} modules too small to be drawn`]],
    }[kind];
    const siblings = bar.parent === null ? [bar] : bar.parent.children;
    const element = make(
      "div",
      { className: `bar ${kind}`, tabIndex: -1 },
      {
        role: "treeitem",
        "aria-label": told.filter(Boolean).join(", "),
        "aria-level": bar.level + 1,
        "aria-posinset": siblings.indexOf(bar) + 1,
        "aria-setsize": siblings.length,
      },
    );
    if (bar.children.length > 0) element.setAttribute("aria-expanded", "true");
    if (kind !== "rest" && node.colour !== null) element.classList.add(`colour-${node.colour}`);
    if (this.search !== null && !this.search.found.has(node)) element.classList.add("unsought");
    element.style.left = `${100 * bar.left}%`;
    element.style.width = `${100 * bar.width}%`;
    element.style.top = `${bar.level * BAR}px`;
    element.style.height = `${BAR}px`;
    const pixels = bar.width * this.box.clientWidth;
    element.classList.toggle("apart", pixels >= APART);
    element.classList.toggle("named", pixels >= NAMED);
    if (pixels >= NAMED) {
      element.append(make("bdi", { textContent: name }), " ", make("span", { textContent: more }));
    }
    bar.element = element;
    return element;
  }

  show(column, found) {
    this.column = column;
    this.search = found;
    this.draw();
  }

  zoom(node) {
    this.zoomed = node;
    const inside = this.box.contains(document.activeElement);
    this.draw();
    if (inside) this.box.firstElementChild?.focus();
  }

  clicked(event) {
    const bar = this.bars.get(event.target.closest(".bar"));
    if (bar) this.enter(bar);
  }

  // Into a module; out of the one that is zoomed already.
  enter(bar) {
    const out = bar.kind === "module" && bar.node === this.zoomed;
    const to = out ? bar.node.parent : bar.node;
    if (to !== null && to !== this.zoomed) this.zoom(to);
  }

  looked(event) {
    const bar = this.bars.get(event.target.closest(".bar"));
    if (!bar) return;
    if (event.type === "focusin") {
      for (const element of this.bars.keys()) element.tabIndex = -1;
      bar.element.tabIndex = 0;
    }
    this.told.looked(bar);
  }

  key(event) {
    const bar = this.bars.get(event.target);
    if (!bar || event.ctrlKey || event.altKey || event.metaKey) return;
    const siblings = bar.parent === null ? [bar] : bar.parent.children;
    const beside = (step) => siblings[siblings.indexOf(bar) + step];
    const moves = {
      ArrowDown: () => bar.children[0],
      ArrowUp: () => bar.parent,
      ArrowRight: () => beside(1),
      ArrowLeft: () => beside(-1),
      Home: () => siblings[0],
      End: () => siblings.at(-1),
    };
    const acts = {
      Enter: () => this.enter(bar),
      " ": () => this.enter(bar),
      Escape: () => this.zoomed.parent !== null && this.zoom(this.zoomed.parent),
    };
    if (event.key in moves) moves[event.key]()?.element.focus();
    else if (event.key in acts) acts[event.key]();
    else return;
    event.preventDefault();
  }
}
