// The table of modules: a tree of rows that open and close, are sorted and searched.

const SHOWN = 40; // rows that a report opens with, at most: whole levels of the tree
const SPARE = 30; // rows above and below the window that are on the page

class Grid {
  constructor(tree, table) {
    this.tree = tree;
    this.table = table;
    this.body = table.tBodies[0];
    this.open = firstLevels(tree);
    this.openBefore = null; // a search opens what it finds; what was open before comes back
    this.search = null;
    this.sorted = { head: null, direction: 1 };
    this.rows = new Map(); // the row of each module that was ever on the page
    this.current = tree.root; // the module whose row has the focus, or gets it
    this.column = tree.columns[0];
    this.heads = this.makeHeads();
    this.height = 30; // of a row, until one is measured
    this.printing = false;
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => this.clicked(event));
    this.body.addEventListener("focusin", (event) => this.focused(event.target));
    const paint = () => requestAnimationFrame(() => this.paint());
    addEventListener("scroll", paint, { passive: true });
    addEventListener("resize", paint);
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
  }

  // The columns: what it is sorted by, a text or a number of a module.
  makeHeads() {
    const heads = [
      { label: "Module", text: (node) => node.name },
      { label: "Type", text: (node) => node.type },
    ];
    for (const column of this.tree.columns) {
      heads.push({ label: column.label, number: (node) => column.total(node).value });
      if (column.key === "flops") {
        this.share = { label: "Share", number: (node) => this.column.total(node).value };
        heads.push(this.share);
      }
    }
    const row = make("tr", {}, { "aria-rowindex": 1 });
    for (const head of heads) {
      head.cell = make("th", { scope: "col", className: head.number ? "number" : "" });
      head.button = make("button", { type: "button", textContent: head.label });
      head.button.addEventListener("click", () => this.sort(head));
      head.cell.append(head.button);
      row.append(head.cell);
    }
    this.table.tHead.replaceChildren(row);
    return heads;
  }

  // Numbers begin with the largest, texts with A; the third time it is the order of the model.
  sort(head) {
    const first = head.number ? -1 : 1;
    if (this.sorted.head !== head) this.sorted = { head, direction: first };
    else if (this.sorted.direction === first) this.sorted.direction = -first;
    else this.sorted = { head: null, direction: 1 };
    this.draw();
  }

  show(column, found) {
    this.column = column;
    if (found !== this.search) {
      if (this.search === null) this.openBefore = this.open;
      this.open = found === null ? this.openBefore : new Set(found.kept);
      this.search = found;
    }
    this.draw();
  }

  // The modules below one that are to be seen, in their order.
  children(node) {
    const kept =
      this.search === null
        ? node.children
        : node.children.filter((child) => this.search.kept.has(child));
    const { head, direction } = this.sorted;
    return head === null ? kept : kept.toSorted((a, b) => direction * compared(head, a, b));
  }

  // Compute what rows there are, all that are open.
  draw() {
    this.list = [];
    const waiting = this.search === null || this.search.kept.size > 0 ? [this.tree.root] : [];
    while (waiting.length > 0) {
      const node = waiting.pop();
      this.list.push(node);
      if (this.open.has(node)) waiting.push(...this.children(node).toReversed());
    }
    this.place = new Map(this.list.map((node, i) => [node, i]));
    while (this.current.parent !== null && !this.place.has(this.current)) {
      this.current = this.current.parent;
    }
    this.table.setAttribute("aria-rowcount", this.list.length + 1);
    this.share.button.textContent = `Share of ${this.column.label}`;
    for (const head of this.heads) {
      head.cell.removeAttribute("aria-sort");
      if (head !== this.sorted.head) continue;
      const word = this.sorted.direction > 0 ? "ascending" : "descending";
      head.cell.setAttribute("aria-sort", word);
    }
    this.paint();
  }

  // Put those rows on the page that are near the window, and the one with the focus; an empty row
  // stands for all in between.
  paint() {
    const focused = this.body.contains(document.activeElement);
    const above = -this.body.getBoundingClientRect().top / this.height;
    const count = this.list.length;
    const first = this.printing ? 0 : Math.max(Math.floor(above) - SPARE, 0);
    const end = this.printing ? count : Math.ceil(above + innerHeight / this.height) + SPARE;
    const current = this.place.get(this.current);
    const shown = [...this.list.keys()].filter((i) => (i >= first && i < end) || i === current);

    const elements = [];
    let next = 0;
    for (const i of [...shown, count]) {
      if (i > next) elements.push(this.gap(i - next));
      if (i < count) elements.push(this.row(this.list[i], i));
      next = i + 1;
    }
    // Rows that stay are not touched, so that the focus stays too.
    const wanted = new Set(elements);
    for (const old of [...this.body.children]) if (!wanted.has(old)) old.remove();
    let at = this.body.firstChild;
    for (const element of elements) {
      if (element === at) at = at.nextSibling;
      else this.body.insertBefore(element, at);
    }
    const row = this.rows.get(this.current);
    if (row?.isConnected) {
      if (focused && document.activeElement !== row) row.focus({ preventScroll: true });
      this.height = row.getBoundingClientRect().height || this.height;
    }
  }

  gap(rows) {
    const gap = make("tr", { className: "gap" }, { "aria-hidden": "true" });
    gap.append(make("td", { colSpan: this.heads.length }));
    gap.firstChild.style.height = `${rows * this.height}px`;
    return gap;
  }

  print(printing) {
    this.printing = printing;
    this.paint();
  }

  // The row of a module as it is now.
  row(node, place) {
    if (!this.rows.has(node)) this.rows.set(node, this.made(node));
    const row = this.rows.get(node);
    row.setAttribute("aria-rowindex", place + 2);
    if (node.children.length > 0) row.setAttribute("aria-expanded", this.open.has(node));
    row.tabIndex = node === this.current ? 0 : -1;
    row.classList.toggle("found", this.search !== null && this.search.found.has(node));
    const { share, value } = this.column.total(node);
    const whole = this.column.total(this.tree.root).value;
    const [text, bar] = row.querySelector(".share").children;
    text.textContent = node.ran ? share : "";
    bar.style.setProperty("--part", whole > 0 ? Math.min(value / whole, 1) : 0);
    return row;
  }

  made(node) {
    const row = make("tr", { className: node.ran ? "" : "idle" }, { "aria-level": node.level });
    row.module = node;
    const name = make("th", { scope: "row", className: "name", title: node.path });
    name.style.setProperty("--level", node.level - 1);
    const toggle = node.children.length > 0 ? "toggle" : "leaf";
    name.append(
      make("span", { className: toggle }, { "aria-hidden": "true" }),
      make("bdi", { textContent: node.name }),
    );
    if (node.also) name.append(make("small", { textContent: ` (also ${node.also})` }));
    row.append(name, make("td", { className: "type", textContent: node.type, title: node.type }));
    for (const column of this.tree.columns) {
      const { short, exact } = column.total(node);
      const counted = node.ran || column.key === "params";
      const text = counted ? short : column.key === "macs" ? "not called" : "";
      const title = counted && short ? exact : "";
      row.append(make("td", { className: "number", textContent: text, title }));
      if (column.key === "flops") {
        const share = make("td", { className: "number share" });
        share.append(make("span"), make("i", {}, { "aria-hidden": "true" }));
        row.append(share);
      }
    }
    return row;
  }

  focus(node) {
    if (!this.place.has(node)) return;
    this.focused(this.rows.get(node) ?? this.row(node, this.place.get(node)));
    this.paint();
    this.rows.get(node).focus();
  }

  focused(target) {
    const before = this.rows.get(this.current);
    if (before) before.tabIndex = -1;
    const row = target.closest("tr");
    row.tabIndex = 0;
    this.current = row.module;
  }

  clicked(event) {
    const row = event.target.closest("tr");
    if (!row.module) return;
    this.focus(row.module);
    if (event.target.closest(".name")) this.toggle(row.module);
  }

  toggle(node, to = !this.open.has(node)) {
    if (node.children.length === 0) return;
    if (to) this.open.add(node);
    else this.open.delete(node);
    this.draw();
  }

  openAll(all) {
    this.open = new Set(all ? this.tree.nodes : []);
    this.draw();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const node = this.current;
    const place = this.place.get(node);
    const open = node.children.length > 0 && this.open.has(node);
    const to = (other) => other && this.focus(other);
    const acts = {
      ArrowDown: () => to(this.list[place + 1]),
      ArrowUp: () => to(this.list[place - 1]),
      ArrowRight: () => (open ? to(this.children(node)[0]) : this.toggle(node, true)),
      ArrowLeft: () => (open ? this.toggle(node, false) : to(node.parent)),
      Home: () => to(this.list[0]),
      End: () => to(this.list.at(-1)),
      Enter: () => this.toggle(node),
      " ": () => this.toggle(node),
    };
    if (!(event.key in acts)) return;
    acts[event.key]();
    event.preventDefault();
  }
}

// What is open at first: whole levels, as many as there is room for, the first at least.
function firstLevels(tree) {
  const open = new Set();
  let level = [tree.root];
  let rows = 1;
  while (level.length > 0) {
    const below = level.flatMap((node) => node.children);
    rows += below.length;
    if (open.size > 0 && rows > SHOWN) break;
    level.forEach((node) => open.add(node));
    level = below;
  }
  return open;
}
