// The table of modules: a tree of rows that open and close, sort and are searched.

const CHUNK = 400; // rows that are put on the page at a time
const SHOWN = 40; // rows that a report opens with, at most, whole levels of the tree

class Grid {
  constructor(tree, table, more) {
    this.tree = tree;
    this.table = table;
    this.body = table.tBodies[0];
    this.more = more;
    this.open = firstLevels(tree);
    this.openBefore = null; // a search opens what it finds; what was open before comes back
    this.search = null;
    this.sorted = { head: null, direction: 1 };
    this.limit = CHUNK;
    this.rows = new Map(); // the row of each module that was ever shown
    this.current = tree.root; // the module whose row has the focus, or gets it
    this.column = tree.columns[0];
    this.heads = this.makeHeads();
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => this.clicked(event));
    this.body.addEventListener("focusin", (event) => this.focused(event));
    more.addEventListener("click", () => this.extend());
    new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && this.extend(), {
      rootMargin: "600px",
    }).observe(more);
    addEventListener("beforeprint", () => this.extend(Infinity));
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
    const row = make("tr");
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
    this.limit = CHUNK;
    this.draw();
  }

  show(column, found) {
    this.column = column;
    if (found !== this.search) {
      this.openBefore = this.search === null ? this.open : this.openBefore;
      this.open = found === null ? this.openBefore : new Set([...found.kept].filter(
        (node) => node.children.some((child) => found.kept.has(child)),
      ));
      this.search = found;
      this.limit = CHUNK;
    }
    this.draw();
  }

  children(node) {
    const kept =
      this.search === null
        ? node.children
        : node.children.filter((child) => this.search.kept.has(child));
    const { head, direction } = this.sorted;
    return head === null ? kept : kept.toSorted((a, b) => direction * compared(head, a, b));
  }

  // The modules whose rows are to be seen, in their order.
  visible() {
    const found = [];
    const waiting = this.search === null || this.search.kept.size > 0 ? [this.tree.root] : [];
    while (waiting.length > 0) {
      const node = waiting.pop();
      found.push(node);
      if (this.open.has(node)) waiting.push(...this.children(node).toReversed());
    }
    return found;
  }

  draw() {
    const hadFocus = this.body.contains(document.activeElement);
    this.list = this.visible();
    if (!this.list.includes(this.current)) this.current = this.list[0] ?? this.tree.root;
    this.limit = Math.max(this.limit, this.list.indexOf(this.current) + 1);
    this.drawn = 0;
    this.body.replaceChildren();
    this.append();
    if (hadFocus) this.focus(this.current);
    this.table.setAttribute("aria-rowcount", this.list.length + 1);
    this.share.button.textContent = `Share of ${this.column.label}`;
    for (const head of this.heads) {
      head.cell.removeAttribute("aria-sort");
      if (head !== this.sorted.head) continue;
      const word = this.sorted.direction > 0 ? "ascending" : "descending";
      head.cell.setAttribute("aria-sort", word);
    }
  }

  // Put the rows up to the limit on the page.
  append() {
    const to = Math.min(this.limit, this.list.length);
    this.body.append(...this.list.slice(this.drawn, to).map((node, i) => this.row(node, this.drawn + i)));
    this.drawn = to;
    const left = this.list.length - to;
    this.more.hidden = left === 0;
    this.more.textContent = `Show ${Math.min(left, CHUNK)} of ${left} more rows`;
  }

  extend(by = CHUNK) {
    if (this.drawn === this.list.length) return;
    this.limit = this.drawn + by;
    this.append();
  }

  // The row of a module as it is now.
  row(node, index) {
    if (!this.rows.has(node)) this.rows.set(node, this.made(node));
    const row = this.rows.get(node);
    row.setAttribute("aria-rowindex", index + 2);
    if (node.children.length > 0) row.setAttribute("aria-expanded", this.open.has(node));
    row.tabIndex = node === this.current ? 0 : -1;
    row.classList.toggle("found", this.search !== null && this.search.found.has(node));
    const { share, value } = this.column.total(node);
    const cell = row.querySelector(".share");
    cell.firstChild.textContent = node.ran ? share : "";
    const whole = this.column.total(this.tree.root).value;
    cell.lastChild.style.width = `${whole > 0 ? Math.min((100 * value) / whole, 100) : 0}%`;
    return row;
  }

  made(node) {
    const row = make("tr", { className: node.ran ? "" : "idle" }, { "aria-level": node.level });
    row.module = node;
    const name = make("th", { scope: "row", className: "name", title: node.path });
    name.style.setProperty("--level", node.level - 1);
    name.append(
      make("span", { className: node.children.length > 0 ? "toggle" : "leaf" }, { "aria-hidden": "true" }),
      make("bdi", { textContent: node.name }),
    );
    if (node.also) name.append(make("small", { textContent: ` (also ${node.also})` }));
    row.append(name, make("td", { textContent: node.type, className: "type" }));
    for (const column of this.tree.columns) {
      const { short, exact } = column.total(node);
      const blank = !node.ran && column.key !== "params";
      const text = !blank ? short : column.key === "macs" ? "not called" : "";
      row.append(make("td", { textContent: text, title: blank ? "" : exact, className: "number" }));
      if (column.key === "flops") {
        const share = make("td", { className: "number share" });
        share.append(make("span"), make("i", {}, { "aria-hidden": "true" }));
        row.append(share);
      }
    }
    return row;
  }

  focus(node) {
    const index = this.list.indexOf(node);
    if (index < 0) return;
    if (index >= this.drawn) this.extend(index + 1 - this.drawn);
    this.rows.get(node).focus();
  }

  focused(event) {
    const row = event.target.closest("tr");
    const before = this.rows.get(this.current);
    if (before) before.tabIndex = -1;
    row.tabIndex = 0;
    this.current = row.module;
  }

  clicked(event) {
    const node = event.target.closest("tr").module;
    this.focus(node);
    if (event.target.closest(".name") && node.children.length > 0) this.toggle(node);
  }

  toggle(node, to = !this.open.has(node)) {
    if (to) this.open.add(node);
    else this.open.delete(node);
    this.draw();
  }

  expandAll() {
    this.open = new Set(this.tree.nodes.filter((node) => node.children.length > 0));
    this.draw();
  }

  collapseAll() {
    this.open = new Set();
    this.draw();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const node = this.current;
    const index = this.list.indexOf(node);
    const isOpen = this.open.has(node);
    const opens = node.children.length > 0;
    const to = (place) => this.list[place] && this.focus(this.list[place]);
    const acts = {
      ArrowDown: () => to(index + 1),
      ArrowUp: () => to(index - 1),
      ArrowRight: () => opens && (isOpen ? to(index + 1) : this.toggle(node, true)),
      ArrowLeft: () => (isOpen && opens ? this.toggle(node, false) : node.parent && this.focus(node.parent)),
      Home: () => to(0),
      End: () => to(this.list.length - 1),
      Enter: () => opens && this.toggle(node),
      " ": () => opens && this.toggle(node),
    };
    if (!(event.key in acts)) return;
    acts[event.key]();
    event.preventDefault();
  }
}

// What is open at first: whole levels, as many as SHOWN rows have room for, the first at least.
function firstLevels(tree) {
  const open = new Set();
  let level = [tree.root];
  let rows = 1;
  while (level.length > 0) {
    const below = level.flatMap((node) => node.children);
    rows += below.length;
    if (open.size > 0 && rows > SHOWN) break;
    level.filter((node) => node.children.length > 0).forEach((node) => open.add(node));
    level = below;
  }
  return open;
}
