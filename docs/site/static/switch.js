// Fills the switch of versions from ../versions.js, which each build writes anew. Without that file, there is no switch.
document.addEventListener("DOMContentLoaded", () => {
    const box = document.querySelector(".versions");
    const versions = window.meterkitVersions;
    if (!box || !versions) return;
    const select = box.querySelector("select");
    for (const version of versions) select.add(new Option(version, version, false, version === box.dataset.version));
    select.addEventListener("change", () => (location.href = `${box.dataset.root}${select.value}/index.html`));
    box.hidden = false;
});
