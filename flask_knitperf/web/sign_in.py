"""The sign-in page and the one-time link to it.

The page is the only one that an unauthenticated client can see: no name, no version, no further
request. Its style is inline, allowed by its hash, so that nothing else has to be served.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from .signatures import new_text, sign

LINK_LIFETIME_S = 300
CODE_PURPOSE = "once"
"""Purpose of the signature of a link's code."""
_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;
background:light-dark(#f6f5f1,#16181b);color:light-dark(#1d2125,#e6e6e3)}
main{width:min(24rem,calc(100vw - 2rem))}
h1{font-size:1.25rem;margin:0 0 1rem}
form{display:grid;gap:.75rem}
input,button{font:inherit;padding:.6rem .75rem;border-radius:.4rem;min-height:2.75rem;
box-sizing:border-box;width:100%}
input{border:1px solid light-dark(#8a8f94,#70767c);background:light-dark(#fff,#1f2226);color:inherit}
button{border:0;background:light-dark(#1d5c8f,#7db8e8);color:light-dark(#fff,#10202d);
font-weight:600;cursor:pointer}
:focus-visible{outline:3px solid light-dark(#c26a00,#ffb454);outline-offset:2px}
p[role=alert]{border-left:4px solid light-dark(#b3261e,#ff8a80);padding-left:.75rem}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_LINK = '<input type="hidden" name="code" value="{code}"><button autofocus>Sign in</button>'
_TOKEN = (
    '<label for="token">Access token</label><input id="token" name="token" type="password" '
    'autocomplete="current-password" required autofocus><button>Sign in</button>'
)
_DEBUG_CODE = (
    '<label for="token">Code that the server printed in its terminal</label><input id="token" '
    'name="token" autocomplete="off" autocapitalize="characters" spellcheck="false" '
    'placeholder="XXXX-XXXX-XXXX" required autofocus><button>Sign in</button>'
)


def page(code: str = "", error: str = "", *, by_code: bool = False) -> tuple[bytes, str]:
    """Return the page and its content security policy.

    Args:
        code: the code of a sign-in link; without one the page has a field for the secret.
        error: why the last try failed.
        by_code: the secret is the code of debug mode, not an access token.
    """
    form = _LINK.format(code=escape(code)) if code else _DEBUG_CODE if by_code else _TOKEN
    alert = f'<p role="alert">{escape(error)}</p>' if error else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Sign in</title><style>{_STYLE}</style></head><body><main><h1>Sign in</h1>{alert}"
        f'<form method="post" action="sign-in">{form}</form></main></body></html>'
    )
    return text.encode(), _POLICY


def sign_in_link(key: bytes, prefix: str, now: float, origin: str = "") -> str:
    """Return path and query of a sign-in page that works once, for five minutes.

    Args:
        key: the signing key of the application's credentials.
        prefix: of the pages, such as ``/perf``.
        now: seconds since the epoch.
        origin: of the record in which its use is noted (:meth:`.Revocations.origin`).
    """
    code = sign(key, CODE_PURPOSE, new_text(now + LINK_LIFETIME_S, origin))
    return f"{prefix}/sign-in?code={code}"
