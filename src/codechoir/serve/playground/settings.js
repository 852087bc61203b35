// What the user chose for all requests, kept in the browser: sampling, limits, and the theme.

const SETTINGS = "codechoir.settings";
const THEME = "codechoir.theme";
const THEMES = ["auto", "light", "dark"];
const DEFAULTS = { max_tokens: 64, temperature: 0, top_p: 1, seed: 0, stop: "" };

const unescaped = (line) => line.replace(/\\([nt\\])/g, (_, letter) => ({ n: "\n", t: "\t", "\\": "\\" })[letter]);

export class Settings {
  constructor(form) {
    this.form = form;
    this.fields = Object.keys(DEFAULTS).map((name) => form.querySelector(`#${name}`));
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(SETTINGS)) ?? {};
    } catch { /* not ours: the defaults hold */ }
    for (const field of this.fields) field.value = kept[field.id] ?? DEFAULTS[field.id];
    form.addEventListener("input", () => {
      localStorage.setItem(SETTINGS, JSON.stringify(Object.fromEntries(this.fields.map((field) => [field.id, field.value]))));
    });
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** False where a field is out of range; the browser then says which. */
  valid() {
    if (this.form.checkValidity()) return true;
    this.form.hidden = false;
    return this.form.reportValidity();
  }

  /** As the API's fields. */
  read() {
    const [maxTokens, temperature, topP, seed, stop] = this.fields;
    const stops = stop.value.split("\n").filter(Boolean).map(unescaped);
    return {
      max_tokens: maxTokens.valueAsNumber, temperature: temperature.valueAsNumber, top_p: topP.valueAsNumber,
      seed: seed.valueAsNumber, ...(stops.length && { stop: stops }),
    };
  }
}

/** Goes round auto, light and dark. */
export function keepTheme(button) {
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  let theme = localStorage.getItem(THEME);
  if (!THEMES.includes(theme)) theme = "auto";
  apply(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem(THEME, theme);
    apply(theme);
  });
}
