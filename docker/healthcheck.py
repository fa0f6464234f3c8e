"""Whether a server answers: exit 0 or 1, for HEALTHCHECK and in place of curl, which the image does not have.

python healthcheck.py [URL]     # by default /readyz of the server in this container
"""

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    url = sys.argv[1] if len(sys.argv) > 1 else f"http://127.0.0.1:{os.environ.get('HEADWATER_PORT', '8000')}/readyz"
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: past any proxy
    try:
        with straight.open(url, timeout=4) as answer:
            print(answer.status)
            return 0
    except (OSError, urllib.error.URLError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
