import { barHeights } from "../view/numbers";

interface SparklineProps {
  values: readonly (number | null)[];
  description: string;
}

const BAR = 3;
const HEIGHT = 20;

/** How often something happened, a bar for each stretch of time, the latest on the right. */
export function Sparkline({ values, description }: SparklineProps) {
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${values.length * BAR} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={description}
    >
      <path d={`M0 ${HEIGHT - 0.5}H${values.length * BAR}`} class="base" />
      <path d={bars(values)} class="bars" />
    </svg>
  );
}

function bars(values: readonly (number | null)[]): string {
  return barHeights(values, HEIGHT - 1)
    .map((height, index) => (height > 0 ? `M${index * BAR} ${HEIGHT}v${-height}h${BAR - 1}v${height}z` : ""))
    .join("");
}
