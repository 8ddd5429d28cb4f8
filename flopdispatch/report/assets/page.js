// The page: what is read from it, what is wired to what.

const at = (id) => document.getElementById(id);

// Any table of the report can be sorted by a button in each of its heads.
function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, i) => {
    const button = make("button", { type: "button", textContent: head.textContent });
    const by = head.classList.contains("number")
      ? { number: (row) => Number(row.cells[i].dataset.value) }
      : { text: (row) => row.cells[i].textContent };
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const up = before === null ? !by.number : before === "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].toSorted((a, b) => compared(by, a, b));
      body.append(...(up ? rows : rows.toReversed()));
    });
    head.replaceChildren(button);
  });
}

// The system's theme, until another is chosen.
function makeTheme(button) {
  const themes = ["auto", "light", "dark"];
  button.addEventListener("click", () => {
    const now = themes.indexOf(document.documentElement.dataset.theme ?? "auto");
    const next = themes[(now + 1) % themes.length];
    document.documentElement.dataset.theme = next;
    button.textContent = `Theme: ${next}`;
  });
  button.hidden = false;
}

function start() {
  const tree = readTree(JSON.parse(at("data").textContent));
  let column = tree.columns.find(({ key }) => key === "flops");
  let found = null;

  // What is known of the bar that is looked at, below the icicle.
  function detail({ kind, node, number }) {
    const about = {
      module: node.type,
      own: "own work, without the modules in it",
      rest: `${number} modules in it, too small to be drawn`,
    }[kind];
    const figures = (kind === "rest" ? [] : tree.columns)
      .map((each) => [each, kind === "own" ? each.own(node) : each.total(node)])
      .filter(([, figure]) => figure.short !== "")
      .map(([each, { short, exact, share }]) => {
        const item = make("span", { title: exact });
        const shown = share ? ` (${share})` : "";
        item.append(make("b", { textContent: each.label }), ` ${short}${shown}`);
        return item;
      });
    const path = make("bdi", { textContent: node.path || node.name, className: "path" });
    at("detail").replaceChildren(path, make("span", { textContent: about }), ...figures);
  }

  function drawn(zoomed, bars, leftOut) {
    const above = [];
    for (let node = zoomed; node !== null; node = node.parent) above.unshift(node);
    at("crumbs").classList.toggle("inside", zoomed !== tree.root);
    at("crumbs").replaceChildren(
      ...above.flatMap((node, i) => {
        const crumb = make("button", { type: "button", textContent: node.name });
        crumb.disabled = node === zoomed;
        if (node === zoomed) crumb.setAttribute("aria-current", "true");
        crumb.addEventListener("click", () => {
          icicle.zoom(node);
          icicle.box.firstElementChild?.focus();
        });
        return i > 0 ? ["›", crumb] : [crumb];
      }),
    );
    const colours = new Set(
      bars.filter(({ kind }) => kind !== "rest").map(({ node }) => node.colour),
    );
    at("legend").replaceChildren(
      ...tree.types.flatMap((type, i) => {
        if (!colours.has(i)) return [];
        const item = make("li");
        item.append(make("i", { className: `colour-${i}` }), make("bdi", { textContent: type }));
        return [item];
      }),
    );
    at("left-out").textContent =
      bars.length === 0
        ? `No ${column.label} here.`
        : leftOut > 0
          ? `Modules too small to be drawn: ${leftOut}. Zoom in, or see the table.`
          : "";
    detail({ kind: "module", node: zoomed });
  }

  const icicle = new Icicle(tree, at("icicle"), { looked: detail, drawn });
  const grid = new Grid(tree, at("tree"));

  function show() {
    icicle.show(column, found);
    grid.show(column, found);
  }

  const order = ["flops", "macs", "bytes", "params", "time"];
  for (const key of order) {
    const each = tree.columns.find((one) => one.key === key);
    if (!each) continue;
    const label = make("label");
    const radio = make("input", {
      type: "radio",
      name: "metric",
      value: key,
      checked: each === column,
    });
    radio.addEventListener("change", () => {
      column = each;
      show();
    });
    label.append(radio, ` ${each.label}`);
    at("metrics").append(label);
  }
  at("search").addEventListener("input", (event) => {
    found = search(tree, event.target.value);
    const number = found?.found.size;
    at("matches").textContent =
      found === null ? "" : `${number} ${number === 1 ? "module" : "modules"} found`;
    show();
  });
  at("expand").addEventListener("click", () => grid.openAll(true));
  at("collapse").addEventListener("click", () => grid.openAll(false));
  at("views").hidden = false;
  show();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
makeTheme(at("theme"));
start();
