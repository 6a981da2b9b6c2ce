import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  { ignores: ["**/node_modules/"] },
  { files: ["**/*.js"], languageOptions: { sourceType: "module", globals: globals.browser } },
  { files: ["**/*.mjs"], languageOptions: { sourceType: "module", globals: globals.node } },
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "eqeqeq": "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-unused-expressions": ["error", { "allowShortCircuit": true }],
      "max-len": ["error", 120],
    },
  },
];
