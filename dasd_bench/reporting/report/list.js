// A list of any length: only the rows in sight are in the document. Arrow keys, Home, End and Page keys move.

const ROW_HEIGHT = 52;

class VirtualList {
  /** `render(index, row)` fills a row's element; `choose(index)` is called when the selection moves. */
  constructor(box, render, choose) {
    Object.assign(this, { box, render, choose, rows: [], selected: -1 });
    this.sizer = box.firstElementChild;
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => {
      const option = event.target.closest(".option");
      if (option) this.select(Number(option.dataset.place));
    });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** Shows `rows` (indices into the data); keeps the selected one where it is still there, else takes the first. */
  show(rows) {
    const kept = this.rows[this.selected];
    this.rows = rows;
    this.sizer.style.height = `${rows.length * ROW_HEIGHT}px`;
    const place = rows.indexOf(kept);
    this.selected = -1;
    this.select(place >= 0 ? place : 0);
    if (!rows.length) { this.draw(); this.choose(-1); }
  }

  select(place) {
    if (!this.rows.length) return;
    this.selected = Math.max(0, Math.min(this.rows.length - 1, place));
    const top = this.selected * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight) this.box.scrollTop = top + ROW_HEIGHT - clientHeight;
    this.draw();
    this.choose(this.rows[this.selected]);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.select(this.selected + steps[event.key]);
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(this.rows.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW_HEIGHT) + 4);
    const nodes = [];
    for (let place = first; place < last; place++) {
      const node = make("div", "option");
      node.id = `${this.box.id}-${place}`;
      node.dataset.place = place;
      node.style.top = `${place * ROW_HEIGHT}px`;
      node.setAttribute("role", "option");
      node.setAttribute("aria-setsize", this.rows.length);
      node.setAttribute("aria-posinset", place + 1);
      node.setAttribute("aria-selected", place === this.selected);
      this.render(this.rows[place], node);
      nodes.push(node);
    }
    this.sizer.replaceChildren(...nodes);
    if (this.selected >= 0) this.box.setAttribute("aria-activedescendant", `${this.box.id}-${this.selected}`);
    else this.box.removeAttribute("aria-activedescendant");
  }
}
