"use strict";
const search = document.getElementById("search");
const status = document.getElementById("status");
const count = document.getElementById("count");
const nothing = document.getElementById("nothing");
const cards = Array.from(document.querySelectorAll(".card"));
const everything = count.textContent;

function show() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    const wanted = (!status.value || card.dataset.status === status.value)
      && words.every((word) => card.dataset.text.includes(word));
    card.hidden = !wanted;
    shown += wanted;
  }
  const narrowed = words.length > 0 || status.value !== "";
  count.textContent = narrowed ? `${shown} of ${cards.length} on this page.` : everything;
  nothing.hidden = shown > 0 || cards.length === 0;
}

document.querySelector(".controls").hidden = cards.length === 0;
search.addEventListener("input", show);
status.addEventListener("change", show);
show(); // a browser may restore what was typed before a reload
