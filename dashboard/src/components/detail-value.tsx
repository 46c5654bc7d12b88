import type { Detail } from "../view/details";
import { SiteText } from "./labels";

export function DetailValue({ value }: Pick<Detail, "value">) {
  if (typeof value === "string") return <>{value}</>;
  if ("site" in value)
    return (
      <>
        {value.what} at <SiteText site={value.site} />
      </>
    );
  return (
    <ul>
      {value.map((each, index) => (
        <li key={index}>{each}</li>
      ))}
    </ul>
  );
}
