import { render } from "preact";

import { App } from "./app";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/tables.css";
import "./styles/pages.css";

const root = document.getElementById("root");
if (root !== null) render(<App />, root);
