// The search: rows that do not have the words are hidden.
const search = document.getElementById("search");
search.hidden = false;
document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter((word) => word);
  for (const row of document.querySelectorAll("tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.classList.toggle("unfound", !words.every((word) => text.includes(word)));
  }
});

// A bar of the timeline may lead to a step within a folded row.
const unfold = () => document.getElementById(location.hash.slice(1))?.closest(".run")?.setAttribute("open", "");
addEventListener("hashchange", unfold);
unfold();
