export function Chevron() {
  return (
    <svg class="chevron" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path
        d="M6 3.5 10.5 8 6 12.5"
        fill="none"
        stroke="currentColor"
        stroke-width="1.75"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}

/** The pulse of the icon in the browser's tab. */
export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M5 17h5l3-8 6 15 3-7h5" fill="none" stroke-width="3" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

const paths: Readonly<Record<string, string>> = {
  ok: "M5.5 10.5 8.7 13.6 14.5 6.8",
  warning: "M10 5.5v5.5M10 14.2v.1",
  error: "M6.7 6.7l6.6 6.6M13.3 6.7l-6.6 6.6",
};

export function LevelIcon({ tone }: { tone: "ok" | "warning" | "error" }) {
  return (
    <svg class="level-icon" viewBox="0 0 20 20" width="28" height="28" aria-hidden="true">
      <circle cx="10" cy="10" r="9" />
      <path d={paths[tone]} fill="none" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}
